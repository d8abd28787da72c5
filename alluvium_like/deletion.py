"""The way out of what may have been an agent's: by rename into the trash, from there for good.

Whatever rights it was left with are in nobody's way. Deleting goes by descriptors and without
recursion, so no depth is too much; no link and no mount is entered, and what cannot be deleted
holds up nothing else. All functions block.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from alluvium_like.failpoint import step
from alluvium_like.log import get_logger

log = get_logger(__name__)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 50


def to_trash(path: Path, trash: Path) -> None:
    """Take one thing away by rename, to be deleted later.

    What is not ours to move gets another name beside, so that its place is free. Raises OSError.
    """
    try:
        make_movable(path)
        with step("trash.move"):
            path.rename(trash / secrets.token_hex(8))
    except PermissionError:
        log.exception("not_moved_to_trash", path=str(path))
        with step("trash.leave"):
            path.rename(path.with_name(f".left-{secrets.token_hex(8)}"))


def make_movable(path: Path | str, folder: int | None = None) -> None:
    """Give a real folder, named from `folder`, the rights that moving and reading it ask for.

    To another parent it moves only when it is writable itself: its `..` changes. Raises OSError.
    """
    mode = os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU, dir_fd=folder)


@dataclass(slots=True)
class _Open:
    """A folder that is being emptied, its name in the one around it, and the folders left in it."""

    fd: int
    name: str = ""
    left: list[str] = field(default_factory=list)


def empty(trash: Path, interrupted: Callable[[], bool]) -> None:
    """Delete what lies in the trash, until told to stop. Raises the first OSError, at the end."""
    errors: list[OSError] = []
    around = [_Open(os.open(trash, _FOLDER))]
    try:
        device = os.fstat(around[0].fd).st_dev
        _delete_files(around[0], errors, interrupted)
        while not interrupted():
            here = around[-1]
            try:
                if here.left:
                    _enter(here.left.pop(), around, device)
                    if around[-1] is not here:
                        _delete_files(around[-1], errors, interrupted)
                elif len(around) > 1:
                    os.close(around.pop().fd)
                    os.rmdir(here.name, dir_fd=around[-1].fd)
                else:
                    break
            except FileNotFoundError:
                continue  # somebody else deletes here too
            except OSError as error:
                errors.append(error)
    finally:
        for opened in around:
            os.close(opened.fd)
    if errors:
        raise errors[0]


def _enter(name: str, around: list[_Open], device: int) -> None:
    """Open a folder in the innermost one; from too deep below it is moved up to the trash."""
    here = around[-1]
    make_movable(name, here.fd)
    if len(around) > _DEEPEST:
        piece = secrets.token_hex(8)
        with step("trash.split"):
            os.rename(name, piece, src_dir_fd=here.fd, dst_dir_fd=around[0].fd)
        around[0].left.append(piece)
        return
    fd = os.open(name, _FOLDER, dir_fd=here.fd)
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        raise OSError(errno.EXDEV, "something is mounted there", name)
    around.append(_Open(fd, name))


def _delete_files(folder: _Open, errors: list[OSError], interrupted: Callable[[], bool]) -> None:
    with os.scandir(folder.fd) as listing:
        entries = list(listing)
    for entry in entries:
        if interrupted():
            return
        if entry.is_dir(follow_symlinks=False):
            folder.left.append(entry.name)
            continue
        try:
            os.unlink(entry.name, dir_fd=folder.fd)
        except FileNotFoundError:
            continue
        except OSError as error:
            errors.append(error)
