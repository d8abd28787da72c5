"""The daemon's health: what the machine lacks now, in memory and on the board for `status`.

Any stage tells it what it met; while the machine is not well nothing new is begun. Only the keeper
finds out that it is well again, by trying a small form of all that work needs.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from alluvium_like.clock import utc_now
from alluvium_like.errors import StoreDamaged
from alluvium_like.log import get_logger
from alluvium_like.trouble import Board, Told, Trouble, explain, trouble_of
from alluvium_like.wake import Wake

log = get_logger(__name__)

_T = TypeVar("_T")
_TRIES = 20
_HOLDS_UP_NOTHING_ELSE = {Trouble.INBOX, Trouble.WATCH}


class Health:
    """What the machine lacks. `wake` is the keeper's."""

    def __init__(self, board: Board, wake: Wake) -> None:
        self._board = board
        self._wake = wake
        self._told: dict[Trouble, Told] = {}
        self._well = anyio.Event()
        self._well.set()
        self._owed: dict[Path, Callable[[], None]] = {}
        self.damage: StoreDamaged | None = None
        self.damaged = anyio.Event()

    @property
    def told(self) -> tuple[Told, ...]:
        """What the machine lacks now."""
        return tuple(self._told.values())

    @property
    def is_well(self) -> bool:
        """Tell whether work may begin; an inbox that cannot be emptied holds up nothing else."""
        return self._well.is_set()

    def tell(self, error: BaseException) -> bool:
        """Note what an error tells of the machine; return whether it was about that at all."""
        if isinstance(error, StoreDamaged):
            self.damage = self.damage or error
            self.damaged.set()
        trouble = trouble_of(error)
        if trouble is not None:
            self.say(trouble, f"{explain(trouble, error)}; the daemon goes on by itself")
        return trouble is not None

    def say(self, trouble: Trouble, reason: str) -> None:
        """Note one trouble with its reason."""
        known = self._told.get(trouble)
        if known is not None and known.reason == reason:
            return
        log.warning("degraded", trouble=trouble, reason=reason)
        self._told[trouble] = Told(trouble, reason, known.since if known else utc_now())
        was_well = self.is_well
        self._show()
        if was_well and not self.is_well:
            self._wake.set()

    def take_back(self, *troubles: Trouble) -> None:
        """Note that these are over."""
        over = [trouble for trouble in troubles if self._told.pop(trouble, None)]
        if over:
            log.info("recovered", troubles=over)
            self._show()

    async def through(self, action: Callable[[], Awaitable[_T]]) -> _T:
        """Do what must not be lost; after each trouble of the machine again, once that is over.

        The action is to be one that may be repeated. What it raises otherwise propagates, and so
        does what it still says of a machine that was found well many times.
        """
        for _ in range(_TRIES):
            try:
                return await action()
            except Exception as error:
                if not self.tell(error):
                    raise
            await self._well.wait()
        return await action()

    async def write_out(self, file: Path, write: Callable[[], None]) -> None:
        """Write a file that shows what rows say; where the machine is in trouble, once it is well.

        After any other failure the file is missing: no row depends on it.
        """
        try:
            await anyio.to_thread.run_sync(write)
        except OSError as error:
            if self.tell(error):
                self._owed[file] = write
            else:
                log.exception("file_not_written", file=str(file))
        else:
            self._owed.pop(file, None)

    async def write_owed(self) -> None:
        """Write what could not be written; called when the machine is well. Raises OSError."""
        for file, write in list(self._owed.items()):
            await anyio.to_thread.run_sync(write)
            del self._owed[file]

    async def write_last(self) -> None:
        """Write at the daemon's end what is still owed; what cannot be written is logged."""
        for file, write in self._owed.items():
            try:
                await anyio.to_thread.run_sync(write)
            except OSError:
                log.exception("file_not_written", file=str(file))

    def _show(self) -> None:
        self._board.show(self.told)
        if self._told.keys() <= _HOLDS_UP_NOTHING_ELSE:
            self._well.set()
        elif self._well.is_set():
            self._well = anyio.Event()


def require_room(folder: Path, floor: int) -> None:
    """Raise OSError when less of the disk of `folder` than `floor` bytes may still be filled."""
    facts = os.statvfs(folder)
    if facts.f_bavail * facts.f_frsize < floor:
        raise OSError(
            errno.ENOSPC,
            f"less than {floor:_} bytes of the disk are free, as retention.min_free_bytes wants: "
            "nothing is taken from the inbox and no attempt is started",
        )
