"""The way out: by rename into the trash, and from there for good.

What lies there may have been an agent's: nothing is followed, folders without rights are opened
up, and what is nested deeper than any stack is deleted in pieces. All functions block.
"""

import os
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from alluvium_like.durable import fsync_dir

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 100
_BLOCK_BYTES = 512


def throw_away(root: Path, inside: Sequence[str], trash: Path) -> None:
    """Move `root`/`inside` into the trash, durably. Raises OSError, as where a link leads there."""
    *folders, name = inside
    opened = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for folder in folders:
            opened.append(os.open(folder, _FOLDER, dir_fd=opened[-1]))
        os.rename(name, trash / secrets.token_hex(8), src_dir_fd=opened[-1])
        os.fsync(opened[-1])
    finally:
        for fd in opened:
            os.close(fd)
    fsync_dir(trash)


def is_really_there(root: Path, inside: Sequence[str]) -> bool:
    """Tell whether `root`/`inside` is there and only real folders lead to it."""
    path = root
    for name in inside:
        if path != root and not _is_folder(path):
            return False
        path = path / name
    return os.path.lexists(path)


def disk_size(path: Path) -> int:
    """Return how many bytes of disk something takes up; what cannot be looked at counts nothing."""
    total, to_list = 0, [path]
    try:
        facts = path.lstat()
    except OSError:
        return 0
    if not stat.S_ISDIR(facts.st_mode):
        return facts.st_blocks * _BLOCK_BYTES
    while to_list:
        try:
            with os.scandir(to_list.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        to_list.append(Path(entry.path))
        except OSError:
            continue
    return total + facts.st_blocks * _BLOCK_BYTES


def empty(trash: Path, stopping: Callable[[], bool]) -> None:
    """Delete what is there; what cannot be deleted holds up nothing. Raises OSError at the end."""
    failed: dict[str, OSError] = {}  # by name
    fd = os.open(trash, _FOLDER)
    try:
        while names := set(os.listdir(fd)) - failed.keys():  # noqa: PTH208 - of a descriptor
            for name in names:
                if stopping():
                    return
                try:
                    _delete(fd, name, fd, 0)
                except OSError as error:
                    failed[name] = error
    finally:
        os.close(fd)
    if failed:
        raise next(iter(failed.values()))


def _delete(folder: int, name: str, trash: int, depth: int) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return
    if depth == _DEEPEST:
        os.rename(name, secrets.token_hex(8), src_dir_fd=folder, dst_dir_fd=trash)
        return
    inside = _open(folder, name)
    try:
        for entry in os.listdir(inside):  # noqa: PTH208 - of a descriptor
            _delete(inside, entry, trash, depth + 1)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=folder)


def _open(folder: int, name: str) -> int:
    """Open a folder such that its entries can be deleted."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU, dir_fd=folder)
        fd = os.open(name, _FOLDER, dir_fd=folder)
    if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(fd, stat.S_IRWXU)
    return fd


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
