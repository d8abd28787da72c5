"""How a run of an agent program ended: its exit, what it told, and nothing of what it claims.

Exit codes lie in both directions: programs exit 0 when no model could be reached. So a run is `ok`
only where it exited with 0, told of its end, did something, and had no failure after which nothing
good came.
"""

from dataclasses import dataclass
from typing import Final

from alluvium_like.agents.record import Record
from alluvium_like.execution.process import RunEnd
from alluvium_like.lifecycle import AgentOutcome, Ending
from alluvium_like.masking import mask

_SHOWN: Final = 300
_BROKEN_OFF: Final = "it exited with 0, but its stream broke off before the end"
_CUT_OFF: Final = {
    Ending.STALLED: AgentOutcome.STALL,
    Ending.TIMED_OUT: AgentOutcome.TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run came to; `resets_at`: when a limit ends (seconds since 1970), None unknown.

    What the program told is in `reason` without secrets.
    """

    outcome: AgentOutcome
    reason: str = ""
    resets_at: float | None = None
    burst: bool = False


NOT_RUN: Final = Judged(AgentOutcome.CRASHED)
"""Where nothing was run, or nobody knows what it came to."""


def judge(run: RunEnd, record: Record | None) -> Judged:
    """Judge one run; `record` is what it told, None where nobody can read it: its exit counts."""
    well = run.ending is Ending.EXITED and run.exit_code == 0
    cut_off = Judged(_CUT_OFF.get(run.ending, AgentOutcome.CRASHED), run.reason)
    if record is None:
        return Judged(AgentOutcome.OK) if well else cut_off
    end, limit, failure = record.end, record.limit, record.failure
    if well and end and end.ok and not failure and not limit:
        if record.did_something:
            return Judged(AgentOutcome.OK)
        return Judged(AgentOutcome.CRASHED, "it ended without a word, and without using the model")
    if limit is not None:
        outcome = AgentOutcome.QUOTA
        return Judged(outcome, _short(limit.text), limit.resets_at, burst=not limit.quota)
    if failure is not None and failure.outcome is not None:
        return Judged(failure.outcome, _short(failure.text))
    if run.ending in _CUT_OFF:
        return cut_off
    if failure is not None:
        return Judged(AgentOutcome.CRASHED, _short(failure.text))
    if well:
        told = _short(end.text) or "it told of a failure" if end else _BROKEN_OFF
        return Judged(AgentOutcome.CRASHED, told)
    return cut_off


def _short(text: str) -> str:
    line = " ".join(mask(text).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
