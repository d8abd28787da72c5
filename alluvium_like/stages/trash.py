"""What housekeeping takes away: found below a folder of ours, measured, moved into the trash.

Nothing is followed on the way. `deletion` deletes what lies there. All functions block.
"""

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from alluvium_like.deletion import make_movable
from alluvium_like.durable import fsync_dir
from alluvium_like.failpoint import step

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 512


def throw_away(root: Path, inside: Sequence[str], trash: Path) -> None:
    """Move `root`/`inside` into the trash, durably. Raises OSError, as where a link leads there."""
    *folders, name = inside
    opened = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for folder in folders:
            opened.append(os.open(folder, _FOLDER, dir_fd=opened[-1]))
        make_movable(name, opened[-1])
        with step("housekeeping.move"):
            os.rename(name, trash / secrets.token_hex(8), src_dir_fd=opened[-1])
        with step("housekeeping.sync_source"):
            os.fsync(opened[-1])
    finally:
        for fd in opened:
            os.close(fd)
    with step("housekeeping.sync_trash"):
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


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
