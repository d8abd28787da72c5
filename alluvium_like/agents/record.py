"""What one run told, gathered as it comes: the transcript on disk, and the sums in memory.

A limit or a failure counts until the program gets on after it: programs try again by themselves.
"""

import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Final

from alluvium_like.agents.adapters.base import Reader
from alluvium_like.agents.events import (
    End,
    Event,
    Failure,
    FileChange,
    Limit,
    Message,
    Session,
    ToolCall,
    Usage,
)
from alluvium_like.clock import monotonic, time_of_day, utc_now
from alluvium_like.lifecycle import AgentOutcome
from alluvium_like.log import get_logger
from alluvium_like.masking import mask

log = get_logger(__name__)

_MOST_BYTES: Final = 50_000_000
_LONGEST_SESSION: Final = 500
_LONGEST_LIMIT_SECONDS: Final = 400 * 86400.0
_GROWING: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)
_FINAL = (AgentOutcome.AUTH, AgentOutcome.CONTEXT, AgentOutcome.REFUSED)


class Record:
    """The sums of one run. `usage` counts up as it is told; `on_usage` is called for each change.

    Lines come from the thread that takes the output, one at a time; the rest is read when the run
    is over.
    """

    def __init__(self, reader: Reader, transcript: Path, on_usage: Callable[[Usage], None]) -> None:
        self._reader = reader
        self._path = transcript
        self._on_usage = on_usage
        self._stream: FileIO | None = None
        self._written = 0
        self._lock = threading.Lock()
        self.usage = Usage()
        self.session = ""
        self.end: End | None = None
        self.limit: Limit | None = None
        self.failure: Failure | None = None
        self.did_something = False
        self._misread = False
        self._refused: tuple[float, float] | None = None
        """Its provider's first complaint with nothing good behind it, and the last one."""

    def take_line(self, line: bytes, *, error: bool) -> None:
        """Take one line of what the program prints."""
        text = line.decode("utf-8", "replace")
        read = self._reader.error_line if error else self._reader.line
        with self._lock:
            self._take(self._heard(read, text))

    def finish(self) -> None:
        """Take what is known at the end, and close the transcript."""
        with self._lock:
            self._take(self._heard(self._reader.finish))
            if self._stream is not None:
                self._stream.close()

    @property
    def refused_seconds(self) -> float:
        """How long its provider refuses it; it may try for ever, and wait for a quota in silence.

        One hiccup, and then a model that thinks, counts as nothing.
        """
        if self._refused is None:
            return 0.0
        first, last = self._refused
        waits = self.limit is not None and self.limit.quota
        return (monotonic() if waits else last) - first

    def _heard(self, read: Callable[..., Iterable[Event]], *given: str) -> Iterator[Event]:
        """Yield what a reader makes of something, as far as it gets; that it failed is said once.

        Whatever a program prints, it is heard out: what follows may be its end.
        """
        try:
            yield from read(*given)
        except Exception:
            if not self._misread:
                log.exception("output_not_understood")
            self._misread = True

    def _take(self, events: Iterable[Event]) -> None:
        for told in events:
            event = _possible(told) if isinstance(told, Limit) else told
            self._note_refusal(event)
            if event in (self.limit, self.failure):
                continue  # programs tell twice of what went wrong
            self._write(event)
            match event:
                case Session(id=name) if _can_be_given(name):
                    self.session = name
                case Usage():
                    self.usage = event if event.total else self.usage.plus(event)
                    self.did_something |= event.output_tokens > 0
                    self._on_usage(self.usage)
                case Limit():
                    self.limit = event
                case Failure():
                    if not (self.failure and self.failure.outcome in _FINAL):
                        self.failure = event
                case End():
                    self.end = event
                    if event.ok:
                        self.limit = self.failure = None
                case Message() | ToolCall() | FileChange():
                    self.did_something = True
                    self.limit = self.failure = None

    def _note_refusal(self, event: Event) -> None:
        """Remember the first complaint and the last one, if nothing good came in between."""
        match event:
            case Limit(quota=True) | Failure(outcome=AgentOutcome.UNREACHABLE):
                now = monotonic()
                self._refused = (self._refused[0] if self._refused else now, now)
            case Message() | ToolCall() | FileChange() | Usage() | End(ok=True):
                self._refused = None

    def _write(self, event: Event) -> None:
        line = json.dumps({"at": utc_now(), **event.document()}, ensure_ascii=False)
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._written + len(data) > _MOST_BYTES:
            return
        try:
            if self._stream is None:
                self._stream = _open(self._path)
            self._stream.write(data)
        except OSError as error:
            log.warning("transcript_lost", reason=str(error))
            self._written = _MOST_BYTES
        self._written += len(data)


def _open(path: Path) -> FileIO:
    """Open a transcript to append; what an agent planted in its place is not written to."""
    stream = FileIO(os.open(path, _GROWING, 0o644), "a")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(f"{path} is no file")
    return stream


def _can_be_given(session: str) -> bool:
    """Tell whether a session's name can stand among arguments, and may be stored."""
    fits = 0 < len(session) <= _LONGEST_SESSION and session[0] != "-"
    return fits and session.isprintable() and mask(session) == session


def _possible(limit: Limit) -> Limit:
    """Return a limit without an end that cannot be meant: nobody waits for that."""
    end = limit.resets_at
    if end is None or 0 <= end <= time_of_day() + _LONGEST_LIMIT_SECONDS:
        return limit
    return replace(limit, resets_at=None)
