"""A git process that stays and answers one question after the other.

It is started when it is first asked, as `Git.run` starts git: clean environment, mark, own session.
Where an answer is cut off (cancelled, too late, git died) the process is out of step, so it is
ended; the next question starts another. It reads its end from the pipe: when the daemon is killed,
it sees the end of its input and goes.
"""

import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.execution.adopt import bury_child, start_child
from alluvium_like.execution.exits import until_exit
from alluvium_like.execution.quick import CommandTimedOut
from alluvium_like.execution.scratch import content_of, scratch_file
from alluvium_like.failpoint import step

Answer = TypeVar("Answer")

_READ_BYTES = 1 << 16
_LEAVE_SECONDS = 5.0
_MOST_ANSWERS = 5000
"""Then a fresh process: git keeps in memory what it has parsed."""


class _HungUp(Exception):
    """The process ended in the middle of an answer."""


class Pipe:
    """The two pipes of one process: what is said to it, and what it answers."""

    def __init__(self, to: int, answers: int) -> None:
        self._to, self._from = to, answers
        self._read = bytearray()
        for fd in (to, answers):
            os.set_blocking(fd, False)

    async def send(self, data: bytes) -> None:
        """Say something; git must not have to answer before it has read all of it."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._to, rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._to)
            except BrokenPipeError as error:
                raise _HungUp from error

    async def line(self) -> bytes:
        """Read one line, without its end."""
        return await self.until(b"\n")

    async def until(self, mark: bytes) -> bytes:
        """Read up to `mark`, and take that away."""
        looked = 0
        while (end := self._read.find(mark, looked)) < 0:
            looked = max(0, len(self._read) - len(mark) + 1)
            await self._more()
        found = self._take(end)
        self._take(len(mark))
        return found

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._read) < size:
            await self._more()
        return self._take(size)

    def is_quiet(self) -> bool:
        """Tell whether the process lives and has nothing unasked to say."""
        try:
            os.read(self._from, 1)
        except BlockingIOError:
            return not self._read
        return False

    async def _more(self) -> None:
        while True:
            try:
                data = os.read(self._from, _READ_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._from)
                continue
            if not data:
                raise _HungUp
            self._read += data
            return

    def _take(self, size: int) -> bytes:
        found = bytes(self._read[:size])
        del self._read[:size]
        return found


@dataclass(frozen=True, slots=True)
class _Process:
    """One process, our ends of its pipes, and where it writes what it complains of."""

    child: subprocess.Popen[bytes]
    pipe: Pipe
    hang_up: ExitStack
    errors: int
    rest: ExitStack


class Talk:
    """One command that is kept alive between questions."""

    def __init__(
        self,
        argv: list[str],
        *,
        name: list[str],
        cwd: Path,
        environment: dict[str, str],
        timeout_seconds: float,
    ) -> None:
        self._argv = argv
        self._name = name
        self._cwd = cwd
        self._environment = environment
        self._timeout_seconds = timeout_seconds
        self._lock = anyio.Lock(fast_acquire=True)
        self._process: _Process | None = None
        self._answers = 0

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody asks or waits to ask."""
        return not self._lock.locked()

    async def ask(self, dialogue: Callable[[Pipe], Awaitable[Answer]]) -> Answer:
        """Have a dialogue that leaves nothing unread. Raises GitFailed and CommandTimedOut."""
        async with self._lock:
            if self._process is not None and not self._process.pipe.is_quiet():
                await self._end()
            whole = False
            try:
                with anyio.fail_after(self._timeout_seconds):
                    if self._process is None:
                        self._process = await to_thread.run_sync(self._start)
                    answer = await dialogue(self._process.pipe)
                whole = True
            except _HungUp:
                code, words = await self._end()
                raise GitFailed(self._name, code, words) from None
            except TimeoutError:
                raise CommandTimedOut(self._name, self._timeout_seconds) from None
            finally:
                self._answers += 1
                if not whole:
                    await self._end(signal.SIGTERM)
                elif self._answers >= _MOST_ANSWERS:
                    await self._end()
            return answer

    async def close(self) -> None:
        """End the process, if there is one; the next question would start another."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                await self._end()

    def _start(self) -> _Process:
        self._answers = 0
        with ExitStack() as ours, ExitStack() as theirs:
            errors = ours.enter_context(scratch_file())
            stdin, to = os.pipe()
            theirs.callback(os.close, stdin)
            hang_up = ours.enter_context(ExitStack())
            hang_up.callback(os.close, to)
            answers, stdout = os.pipe()
            ours.callback(os.close, answers)
            theirs.callback(os.close, stdout)
            with step("talk.spawn"):
                child = start_child(
                    self._argv,
                    cwd=self._cwd,
                    environment=self._environment,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=errors,
                )
            return _Process(child, Pipe(to, answers), hang_up, errors, ours.pop_all())

    async def _end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """End and reap the process; returns its code and what it complained of.

        The end of its input is enough, unless it is in the middle of something. A TERM lets git
        take its lock files away.
        """
        process, self._process = self._process, None
        if process is None:
            return 0, ""
        child = process.child
        with anyio.CancelScope(shield=True), process.rest:
            process.hang_up.close()
            if number is not None:
                _signal(child, number)
            with anyio.move_on_after(_LEAVE_SECONDS):
                await until_exit(child)
            _signal(child, signal.SIGKILL)
            await until_exit(child)
            code, words = bury_child(child), content_of(process.errors)
        return code, words.decode(errors="replace")


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if child.returncode is None:  # not reaped, so the number still is its own
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
