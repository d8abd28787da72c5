"""Notices a run that gets nowhere: no output, and next to no processor time in all its processes.

A program that waits for an answer which never comes looks like this, and so does one that tries
again for ever in silence. Programs with an event loop use a little while they wait: that is no
work. Only time in which we ran ourselves counts: a machine that slept does not make a stall.
"""

from typing import Final

from anyio import to_thread

from alluvium_like.execution.exits import sleep_awake
from alluvium_like.execution.output import OutputPump
from alluvium_like.execution.run import Run, processes_of
from alluvium_like.execution.table import processor_seconds

_LOOKS: Final = 4
_WAITING: Final = 0.02
"""The share of one processor below which a run counts as waiting. Idle Node programs that try to
connect again and again were seen to use less than half of it."""


async def until_stalled(run: Run, output: OutputPump, seconds: float) -> None:
    """Return when nothing was printed or worked for `seconds`; a quarter later at the most."""
    heard, used, quiet = output.quiet_since, 0.0, 0.0
    while quiet < seconds:
        await sleep_awake(seconds / _LOOKS)
        try:
            used_now = await _used(run)
        except OSError:  # the machine is in trouble: nobody knows what it did meanwhile
            continue
        quiet += seconds / _LOOKS
        # Less than before is work too: processes ended.
        if output.quiet_since != heard or abs(used_now - used) > _WAITING * quiet:
            heard, used, quiet = output.quiet_since, used_now, 0.0


async def _used(run: Run) -> float:
    def look() -> float:
        return sum(processor_seconds(process.pid) for process in processes_of(run))

    return await to_thread.run_sync(look)
