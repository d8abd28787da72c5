"""The janitor: deletes what left by rename, in the background, and nothing else."""

import os
import shutil
import stat
from pathlib import Path

import anyio.to_thread

from alluvium_like.log import get_logger
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts

log = get_logger(__name__)


class Janitor:
    """The stage that empties the trash."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self) -> None:
        """Delete until the daemon stops; what could not be deleted is tried again later."""
        while not self._parts.runs.stopping:
            try:
                await anyio.to_thread.run_sync(_empty, self._parts.workspace.trash)
            except OSError:
                log.exception("trash_not_emptied")
            await self._parts.wakes.janitor.wait(SLOW_LOOK_SECONDS)


def _empty(trash: Path) -> None:
    for path in trash.iterdir():
        if stat.S_ISDIR(path.lstat().st_mode):
            _remove_tree(path)
        else:
            path.unlink()


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except PermissionError:  # an agent made folders unwritable, even for us
        for root, _, _ in os.walk(path):
            Path(root).chmod(stat.S_IRWXU)
        shutil.rmtree(path)
