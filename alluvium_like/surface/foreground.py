"""Commands that run programs of others themselves, outside the daemon: told to end, they end those.

Such a program has a session of its own, so no terminal ends it. What would end us (INT, TERM, HUP)
cancels the work instead, which cleans up after itself, and ends us then; what was ignored from the
start, as by nohup, still is.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest
from alluvium_like.sandbox.box import Box
from alluvium_like.sandbox.egress import OnRefused
from alluvium_like.sandbox.run import run_in_box

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_T = TypeVar("_T")


def run_in_foreground(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do `work` in an event loop of its own, from the main thread, and return what it returns.

    Raises what it raises, and SystemExit where a signal ended it.
    """
    told: list[signal.Signals] = []
    found: list[_T] = []

    async def until_told() -> None:
        with anyio.CancelScope() as scope:

            def end(number: signal.Signals) -> None:
                told.append(number)
                scope.cancel()

            for number in _ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    asyncio.get_running_loop().add_signal_handler(number, end, number)
            found.append(await work())

    anyio.run(until_told)
    if told:
        raise SystemExit(128 + told[0])
    return found[0]


async def run_program(
    spec: RunSpec, box: Box | None = None, on_refused: OnRefused = lambda *_: None
) -> RunEnd:
    """Run a program until nothing of it is left. Raises OSError where the machine is in trouble."""

    async def started(_: ProcessIdentity) -> None:
        """There is no row to store it in."""

    return await run_in_box(
        spec, box, on_started=started, stop=StopRequest(), on_refused=on_refused
    )
