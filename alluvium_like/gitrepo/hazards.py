"""What an agent may leave that no git is let near: it would wait for ever, or read elsewhere.

Opening a FIFO waits until somebody writes, and a device may never end. So before git reads what was
an agent's, none of these may stand where it opens a file by its name. A link among the objects
would let a fetch read, and so publish, objects of any repository on the machine. All functions
block.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from alluvium_like.deletion import make_movable
from alluvium_like.gitrepo.workshop import Source, Workshop, is_real_folder, read_untrusted, walk
from alluvium_like.trouble import trouble_of

_POINTER = "gitdir: "
_HARMLESS = frozenset({"", "a link", "a socket"})


def find_tampering(workshop: Workshop, source: Source) -> str:
    """Return why this workshop must not be fetched from, or nothing.

    What could make a fetch read objects of others is a planted `alternates`, or a link.
    """
    for part in ("", "objects", "refs", "refs/heads"):
        if not is_real_folder(workshop.git_dir / part):
            return f"the workshop's {part or 'own'} folder is gone or was replaced"
    if read_untrusted(workshop.alternates) != str(source.integration / "objects"):
        return "the workshop's list of borrowed objects was changed"
    try:
        for path, kind in _odd_in_repository(workshop.git_dir):
            place = path.relative_to(workshop.git_dir)
            if kind not in _HARMLESS or place.parts[0] == "objects":
                return f"{kind or 'a link'} stands where git reads the workshop's {place}"
    except OSError as error:
        if trouble_of(error):
            raise
        return f"the workshop cannot be looked through: {error.strerror}"
    return ""


def find_obstacle(workshop: Workshop) -> str:
    """Return why git must not look at the files of this worktree, or nothing.

    A worktree that its agent locked is opened up.
    """
    if not is_real_folder(workshop.tree):
        return "the agent deleted or replaced its worktree"
    try:
        make_movable(workshop.tree)
        return next(_obstacles(workshop.tree), "")
    except OSError as error:
        if trouble_of(error):
            raise
        return f"the worktree cannot be looked through: {error.strerror}"


def _obstacles(tree: Path) -> Iterator[str]:
    """Look where git does: at files of its own names, and at repositories inside the tree.

    The tree's own `.git` is none of them: we bring ours.
    """
    own = os.fspath(tree / ".git")
    for entry in walk(tree, closed=".git"):
        if not entry.name.startswith(".git") or entry.path == own:
            continue
        if entry.is_symlink() and entry.name != ".git":
            continue  # git follows none of these
        path = Path(entry.path)
        odd = _odd_in_nested(path) if entry.name == ".git" else [(path, _kind(path))]
        for where, kind in odd:
            if kind not in _HARMLESS:
                yield f"{kind} stands where git reads {os.path.relpath(where, tree)}"


def _odd_in_nested(git_dir: Path) -> Iterator[tuple[Path, str]]:
    """Look at what git opens to learn whether a folder is a repository, and at which commit.

    Without `objects` and `refs` it goes no further, so this does not either: `/` may be named.
    """
    repository = Path(os.path.realpath(git_dir))
    if _kind(repository):
        yield git_dir, _kind(repository)
        return
    pointer = read_untrusted(repository)
    if pointer.startswith(_POINTER):
        repository = _follow(repository.parent, pointer.removeprefix(_POINTER))
    shared = read_untrusted(Path(os.path.realpath(repository / "commondir")))
    for place in {repository, _follow(repository, shared)}:
        for name in ("HEAD", "commondir"):
            yield place / name, _kind(place / name)
        if all(os.path.isdir(place / name) for name in ("objects", "refs")):  # noqa: PTH112
            yield from _odd_in_repository(place)


def _follow(folder: Path, pointer: str) -> Path:
    return folder if "\0" in pointer else Path(os.path.realpath(folder / pointer))


def _odd_in_repository(git_dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is neither a file nor a folder; git opens nothing among the hooks."""
    hooks = os.path.join(git_dir, "hooks", "")  # noqa: PTH118
    for entry in walk(git_dir):
        plain = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
        if not plain and not entry.path.startswith(hooks):
            yield Path(entry.path), _kind(Path(entry.path))


def _kind(path: Path) -> str:
    """Say what is odd about a file for whoever opens it; nothing for a plain one, or none."""
    try:
        mode = path.lstat().st_mode
        linked = stat.S_ISLNK(mode)
        if linked:
            mode = path.stat().st_mode
    except OSError:
        return ""
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    if stat.S_ISSOCK(mode):
        return "a socket"
    if linked:
        return "a link to a folder" if stat.S_ISDIR(mode) else "a link"
    return ""
