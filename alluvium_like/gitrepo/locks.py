"""Lock files of git: which one stopped a command, and whether anybody may still hold it.

Git makes `<file>.lock` before it writes a file and takes it away afterwards; one that is killed
leaves it behind, and no git after it can write there. In the daemon's repositories such a lock goes
when none of its gits is at work there. In the owner's it goes when it was made in a landing that
was cut off, or has lain unchanged for long, and only while no process is seen that could hold it:
a git waits in its editor for as long as a person likes. All functions block.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from alluvium_like.clock import time_of_day
from alluvium_like.failpoint import step

_NAMED = re.compile(r"Unable to create '(.+\.lock)': File exists")
_LONG_SECONDS = 600.0
"""So long a lock lies before it counts as nobody's. Gits are seen for as long as they live; other
programs that write repositories hold a lock for much less."""
_COARSE_SECONDS = 2.0
"""No file system keeps times less exactly than this."""


def lock_in_the_way(words: str) -> Path | None:
    """Return the lock file that git names as the reason of its failure."""
    found = _NAMED.search(words)
    return Path(found[1]) if found else None


def clear_locks(git_dir: Path) -> list[Path]:
    """Take every lock out of a repository of ours in which no git is at work; returns them.

    Objects that a killed git had not finished go as well: nothing else would ever take them away.
    """
    objects = os.path.join(git_dir, "objects", "")  # noqa: PTH118
    found = [
        Path(folder, name)
        for folder, _, names in os.walk(git_dir)
        for name in names
        if name.endswith(".lock") or (name.startswith("tmp_") and folder.startswith(objects))
    ]
    for lock in found:
        clear_lock(lock)
    return found


def birth_of(lock: Path) -> tuple[int, int] | None:
    """Return what tells a lock from the next one in its place, None where there is none."""
    try:
        found = lock.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


def clear_lock(lock: Path) -> None:
    """Take one lock out of a repository of ours; its holder is known to be gone."""
    with step("lock.clear"):
        lock.unlink(missing_ok=True)


def release(lock: Path, places: Sequence[Path], cut_off: float | None, network: str) -> str:
    """Take a lock out of the owner's repository, or tell what is waited for; "" when it is gone.

    `places`: the folders in which a git may be at work on the repository, without links.
    `cut_off`: since when (seconds since 1970) a landing that was cut off may have made it.
    `network`: the type of the file system where other machines may be at work in the repository.
    """
    try:
        found = lock.lstat()
    except FileNotFoundError:
        return ""
    since = datetime.fromtimestamp(found.st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    title = f"{lock} has been there since {since}"
    users = [*_gits_in(places, found.st_uid), *_openers(lock)]
    if users:
        return f"{title}, held it seems by {', '.join(users)}; goes on when that has ended"
    whole = stat.S_ISREG(found.st_mode) and _sees_all_of(found.st_uid) and not network
    ours = cut_off is not None and found.st_mtime >= cut_off - _COARSE_SECONDS
    lain_long = time_of_day() - found.st_mtime > _LONG_SECONDS
    if whole and (ours or lain_long) and birth_of(lock) == (found.st_ino, found.st_ctime_ns):
        with step("owner.unlock"):
            lock.unlink(missing_ok=True)
        return ""
    elsewhere = f" on this machine ({network} is shared)" if network else ""
    by_itself = f" (by itself that is done after {_LONG_SECONDS / 60:g} minutes)" if whole else ""
    return (
        f"{title}, and no git is seen{elsewhere} that holds it: one that was killed may have left "
        f"it; where you know of none at work, remove the file{by_itself}"
    )


def _sees_all_of(user: int) -> bool:
    """Tell whether all that the processes of a user have open can be seen."""
    return os.geteuid() in (0, user)


def _gits_in(places: Sequence[Path], user: int) -> Iterator[str]:
    """Yield the living gits that are at work in `places`, or may be.

    Of those of `user`, whose lock it is, that counts too which cannot be looked at.
    """
    import psutil

    for process in psutil.process_iter():
        try:
            name = process.name()
            if name != "git" and not name.startswith("git-"):
                continue
            title = f"{name} (process {process.pid})"
            folder = process.cwd()
            words = [word for word in process.cmdline() if word.startswith("--git-dir=")]
            named = [word.partition("=")[2] for word in words]
            named.append(process.environ().get("GIT_DIR", ""))
            paths = [Path(os.path.realpath(Path(folder, name))) for name in ("", *named)]
            if any(path.is_relative_to(place) for path in paths for place in places):
                yield title
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            if process.uids().effective == user:
                yield title


def _openers(lock: Path) -> Iterator[str]:
    """Yield the processes that have the file open, as far as this user may see them."""
    import psutil

    path = os.path.realpath(lock)
    for process in psutil.process_iter():
        try:
            if any(file.path == path for file in process.open_files()):
                yield f"{process.name()} (process {process.pid})"
        except psutil.Error:
            continue
