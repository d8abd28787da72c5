"""What a run prints, streamed from pipes into files by one thread, in chunks, with a cap.

Secrets are masked on the way to a file, so a line gets there when it is whole. Whoever wants to
gets each line as it was printed, also of what is no longer kept: masked, it might say something
else. `quiet_since` tells when there was output last. After the cap, which counts what a file
held before, the rest is read and dropped, so that the run never stalls on a full pipe. A full disk
does not stop it, nor does a listener that fails: that is told no more. `finish` takes what is
already in the pipes and does not wait for whoever may still hold their other end.
"""

import os
import selectors
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from alluvium_like.clock import monotonic
from alluvium_like.log import get_logger
from alluvium_like.masking import MaskedStream

_CHUNK_BYTES = 65536
_TAIL_BYTES = 4096
_LAST_BYTES = 1 << 20  # what a pipe can hold at most
_LONGEST_LINE = 8 << 20
"""Of a longer one nobody is told: an event that holds a whole file is shorter."""

OnLine = Callable[[bytes], None]

log = get_logger(__name__)


@dataclass(slots=True)
class _Stream:
    source: int
    file: int
    limit: int
    on_line: OnLine | None
    masked: MaskedStream = field(default_factory=MaskedStream)
    written: int = 0
    dropping: bool = False
    ends_line: bool = True
    line: bytearray = field(default_factory=bytearray)
    skipping: bool = False

    def take(self) -> int:
        """Move one chunk and return its size, 0 at the end. Raises BlockingIOError when empty."""
        chunk = os.read(self.source, _CHUNK_BYTES)
        self._tell(chunk)
        if not self.dropping:
            self._keep(self.masked.feed(chunk))
        return len(chunk)

    def finish(self) -> None:
        """Take what was held back, and tell of a last line without an end."""
        if self.line:
            self._tell(b"\n")
        if not self.dropping:
            self._keep(self.masked.finish())

    def _tell(self, text: bytes) -> None:
        if self.on_line is None:
            return
        *whole, rest = text.split(b"\n")
        try:
            for part in whole:
                self.line += part
                if not self.skipping and len(self.line) <= _LONGEST_LINE:
                    self.on_line(bytes(self.line))
                self.line.clear()
                self.skipping = False
        except Exception:  # the pipe has to be emptied all the same
            log.exception("output_not_understood")
            self.on_line = None
            return
        self.line += rest
        if len(self.line) > _LONGEST_LINE:
            self.line.clear()
            self.skipping = True

    def take_rest(self) -> None:
        """Move what the pipe holds now."""
        taken = 0
        try:
            while taken < _LAST_BYTES and (size := self.take()):
                taken += size
        except BlockingIOError:
            pass

    def _keep(self, masked: bytes) -> None:
        try:
            self._write(masked)
        except OSError as error:
            self.dropping = True
            log.warning("output_lost", reason=str(error))

    def _write(self, chunk: bytes) -> None:
        kept = chunk[: self.limit - self.written]
        if kept:
            _write_all(self.file, kept)
            self.written += len(kept)
            self.ends_line = kept.endswith(b"\n")
        if len(kept) < len(chunk):
            self.dropping = True
            note = f"[output limit of {self.limit} bytes reached; the rest was dropped]\n"
            _write_all(self.file, note.encode() if self.ends_line else b"\n" + note.encode())


class OutputPump:
    """The pipes of one run and the thread that empties them.

    `stdout` and `stderr` are the ends for the child; the same one when both go to the same file.
    `quiet_since` (monotonic) is when something came last, at first when it was made.
    """

    def __init__(
        self,
        stdout_path: Path,
        stderr_path: Path,
        limit: int,
        *,
        on_line: OnLine | None = None,
        on_error_line: OnLine | None = None,
    ) -> None:
        """Open everything and start reading; what is to be told is told from the reading thread.

        Raises OSError.
        """
        self._streams: list[_Stream] = []
        self.quiet_since = monotonic()
        with ExitStack() as opened:
            self._stop_read, self._stop_write = _pipe(opened)
            self.stdout = self._open(opened, stdout_path, limit, on_line)
            merged = stderr_path == stdout_path
            self.stderr = (
                self.stdout if merged else self._open(opened, stderr_path, limit, on_error_line)
            )
            self._thread = threading.Thread(target=self._pump, name="run output", daemon=True)
            self._thread.start()
            opened.pop_all()

    def hand_over(self) -> None:
        """Close our copies of the child's ends, once the child has its own."""
        for fd in {self.stdout, self.stderr}:
            os.close(fd)

    def finish(self) -> None:
        """Take what is left and close the files; blocks until that is done."""
        os.close(self._stop_write)
        self._thread.join()

    def _open(self, opened: ExitStack, path: Path, limit: int, on_line: OnLine | None) -> int:
        source, target = _pipe(opened)
        os.set_blocking(source, False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(path, flags, 0o644)
        opened.callback(os.close, file)
        size = os.fstat(file).st_size
        stream = _Stream(source, file, limit, on_line, written=size, dropping=size > limit)
        self._streams.append(stream)
        return target

    def _pump(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop_read, selectors.EVENT_READ)
            for stream in self._streams:
                selector.register(stream.source, selectors.EVENT_READ, stream)
            self._pump_until_stopped(selector)
        for stream in self._streams:
            stream.take_rest()
            stream.finish()
            os.close(stream.source)
            os.close(stream.file)
        os.close(self._stop_read)

    def _pump_until_stopped(self, selector: selectors.BaseSelector) -> None:
        while True:
            for key, _ in selector.select():
                if key.fd == self._stop_read:
                    return
                self.quiet_since = monotonic()
                if not key.data.take():
                    selector.unregister(key.fd)


def last_line(file: Path) -> str:
    """Return the last line of a file that is not empty, "" where there is none. Blocks."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(os.fstat(stream.fileno()).st_size - _TAIL_BYTES, 0))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _pipe(opened: ExitStack) -> tuple[int, int]:
    source, target = os.pipe()
    opened.callback(os.close, source)
    opened.callback(os.close, target)
    return source, target


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
