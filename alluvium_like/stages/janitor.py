"""The janitor: deletes what left by rename and packs what the daemon's Git collected, no more."""

import os
import shutil
import stat
from pathlib import Path

import anyio.to_thread

from alluvium_like.errors import AlluviumError
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts, Runs

log = get_logger(__name__)


class Janitor:
    """The stage that empties the trash and packs; objects are never pruned."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self) -> None:
        """Delete until the daemon stops; what could not be deleted is tried again later."""
        parts = self._parts
        while not parts.runs.stopping:
            try:
                await anyio.to_thread.run_sync(_empty, parts.workspace.trash, parts.runs)
            except OSError:
                log.exception("trash_not_emptied")
            try:
                await parts.integration.tidy()
            except AlluviumError:
                log.exception("repository_not_packed")
            await parts.wakes.janitor.wait(SLOW_LOOK_SECONDS)


def _empty(trash: Path, runs: Runs) -> None:
    """Delete what is there, one thing after the other; what cannot be deleted holds up nothing."""
    kept: OSError | None = None
    for path in trash.iterdir():
        if runs.stopping:
            return
        try:
            if stat.S_ISDIR(path.lstat().st_mode):
                _remove_tree(path)
            else:
                path.unlink()
        except OSError as error:
            kept = error
    if kept is not None:
        raise kept


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except PermissionError:  # an agent made folders unwritable, even for us
        path.chmod(stat.S_IRWXU)
        for root, folders, _ in os.walk(path):
            for folder in folders:
                inside = Path(root, folder)
                if not inside.is_symlink():
                    inside.chmod(stat.S_IRWXU)  # before it is walked: it may be unreadable
        shutil.rmtree(path)
