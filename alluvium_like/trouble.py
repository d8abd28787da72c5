"""What the machine may lack: how an error tells of it, and the board that shows it to `status`.

Each `Trouble` makes the daemon `degraded`; what stages store as a `Condition` is ordinary. Trouble
is a fact about now and never stored: the store may be what is in trouble. The board is one file,
opened and filled at the start and overwritten in place, so that it needs no room, no descriptor
and no answer of the daemon's; it counts only while the daemon holds the workspace's lock.
"""

import contextlib
import errno
import json
import os
import re
import signal
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from alluvium_like.errors import GitFailed, PlaceLost, StoreUnavailable, leaves, reason_of

_BOARD_BYTES = 32768
_LONGEST_REASON = 600  # characters of at most four bytes: all of the troubles fit on the board
_READS = 3


class Trouble(StrEnum):
    """What the machine lacks."""

    STORE = "store"
    DISK = "disk"
    IO = "io"
    PROCESSES = "processes"
    INBOX = "inbox"
    WATCH = "watch"
    FOLDERS = "folders"


@dataclass(frozen=True, slots=True)
class Told:
    """One trouble with its reason for people, and when it was met first."""

    name: Trouble
    reason: str
    since: str


_OF_ERRNO = {
    errno.ENOSPC: Trouble.DISK,
    errno.EDQUOT: Trouble.DISK,
    errno.EIO: Trouble.IO,
    errno.EROFS: Trouble.IO,
    errno.EMFILE: Trouble.PROCESSES,
    errno.ENFILE: Trouble.PROCESSES,
    errno.EAGAIN: Trouble.PROCESSES,
    errno.ENOMEM: Trouble.PROCESSES,
}
_OF_TEXT = {f": {os.strerror(code)}": trouble for code, trouble in _OF_ERRNO.items()}
_NO_ROOM = re.compile(  # git's words
    r"(error|fatal): ([Uu]nable to write (file |new[ _]index file)|.*couldn't (write|set) '"
    r"|.*cannot lock ref .*: unable to create directory for )"
)
_NO_THREAD = "can't start new thread"


def trouble_of(error: BaseException) -> Trouble | None:
    """Return what of the machine's an error tells of, None where it is about something else.

    Git tells by text, in the C locale, at the end of a line.
    """
    for leaf in leaves(error):
        match leaf:
            case PlaceLost():
                return Trouble.FOLDERS
            case StoreUnavailable():
                return Trouble.DISK if leaf.full else Trouble.STORE
            case OSError() if leaf.errno in _OF_ERRNO:
                return _OF_ERRNO[leaf.errno]
            case GitFailed() if leaf.code == -signal.SIGKILL:  # for want of memory, say
                return Trouble.PROCESSES
            case GitFailed():
                for line in leaf.stderr.splitlines():
                    for text, trouble in _OF_TEXT.items():
                        if line.rstrip().endswith(text):
                            return trouble
                    if _NO_ROOM.match(line):
                        return Trouble.DISK
            case MemoryError():
                return Trouble.PROCESSES
            case RuntimeError() if str(leaf) == _NO_THREAD:
                return Trouble.PROCESSES
    return None


def explain(trouble: Trouble, error: BaseException) -> str:
    """Say in one line what happened and what to do about it."""
    leaf = next((leaf for leaf in leaves(error) if trouble_of(leaf) is trouble), error)
    return f"{reason_of(leaf)[: _LONGEST_REASON // 2]}; {_advice(trouble)}"


def _advice(trouble: Trouble) -> str:
    match trouble:
        case Trouble.STORE:
            return "find out who locks the store, or what is wrong with its disk"
        case Trouble.DISK:
            return "make room on the disk"
        case Trouble.IO:
            return "see what the system's log says about the disk"
        case Trouble.PROCESSES:
            return "end other programs, or raise the limits of files and processes"
        case Trouble.INBOX:
            return "let the daemon read and write this folder"
        case Trouble.FOLDERS:
            return "give it back to the daemon as it was, or stop the daemon and start it again"
        case Trouble.WATCH:
            return "until then what is dropped is noticed within seconds"
        case _:
            assert_never(trouble)


class Board:
    """The daemon's side of the board."""

    def __init__(self, path: Path) -> None:
        """Make the board and leave it empty. Raises OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._fd, _page(()), 0)

    def show(self, told: tuple[Told, ...]) -> None:
        """Show these troubles; where even that fails, the log has to do."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, _page(told), 0)

    def close(self) -> None:
        """Show nothing any more."""
        self.show(())
        os.close(self._fd)


def read_board(path: Path) -> tuple[Told, ...]:
    """Return what is on the board, nothing where there is none. For the lock's holder alone."""
    for _ in range(_READS):  # the daemon may be writing at this moment
        try:
            told = json.loads(path.read_bytes())
            return tuple(Told(Trouble(t["name"]), t["reason"], t["since"]) for t in told)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ()


def _page(told: tuple[Told, ...]) -> bytes:
    shown = [{**asdict(one), "reason": one.reason[:_LONGEST_REASON]} for one in told]
    text = json.dumps(shown, ensure_ascii=False).encode(errors="backslashreplace")
    return text.ljust(_BOARD_BYTES)
