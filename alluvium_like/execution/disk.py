"""Notices a run that fills the disk: how much is free is asked often, its folders seldom looked at.

Only when much has gone from the file system since the last look are the folders of the run walked:
that is all that a run which takes little ever costs.
"""

import os
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from anyio import to_thread

from alluvium_like.execution.exits import sleep_awake
from alluvium_like.execution.identity import ProcessIdentity

_SECONDS: Final = 1.0
_SHARE: Final = 10
_BLOCK_BYTES: Final = 512


async def until_too_large(
    folders: Sequence[Path], limit_bytes: int, find: Callable[[], Collection[ProcessIdentity]]
) -> None:
    """Return when the files in the folders take up more than `limit_bytes` together.

    Deleted ones that the processes which `find` returns have open count, too: they take up room
    where the folders are.
    """
    most_free = await to_thread.run_sync(_free, folders)
    while True:
        await sleep_awake(_SECONDS)
        free = await to_thread.run_sync(_free, folders)
        most_free = max(most_free, free)
        if most_free - free < limit_bytes / _SHARE:
            continue
        if await to_thread.run_sync(_used_by, folders, find) > limit_bytes:
            return
        most_free = free


def _free(folders: Sequence[Path]) -> int:
    for folder in folders:
        try:
            found = os.statvfs(folder)
        except OSError:  # gone, or the machine is in trouble
            continue
        return found.f_bavail * found.f_frsize
    return 0


def _used_by(folders: Sequence[Path], find: Callable[[], Collection[ProcessIdentity]]) -> int:
    return _used(folders) + _deleted(folders, find())


def _deleted(folders: Sequence[Path], processes: Collection[ProcessIdentity]) -> int:
    """Return what deleted files take up that processes have open; only Linux tells."""
    devices: set[int] = set()
    held: dict[tuple[int, int], int] = {}
    for folder in folders:
        with suppress(OSError):
            devices.add(folder.stat().st_dev)
    for process in processes:
        with suppress(OSError):  # it has ended
            for opened in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    found = opened.stat()
                    if not found.st_nlink and found.st_dev in devices:
                        held[found.st_dev, found.st_ino] = found.st_blocks * _BLOCK_BYTES
    return sum(held.values())


def _used(folders: Sequence[Path]) -> int:
    """Return what the files take up, holes left out; no link is followed."""
    total = 0
    left = [os.fspath(folder) for folder in folders]
    while left:
        try:
            with os.scandir(left.pop()) as listing:
                entries = list(listing)
        except PermissionError:  # shut by whoever filled it: nobody knows how full it is
            return sys.maxsize
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.path)
            with suppress(OSError):  # what goes meanwhile hides nothing beside it
                total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    return total
