"""How a run of an agent program ended: its exit, what it told, and nothing of what it claims.

Exit codes lie in both directions: programs exit 0 when no model could be reached. So a run is `ok`
only where it exited with 0, told of its end, did something, and had no failure after which nothing
good came.
"""

from dataclasses import dataclass
from typing import Final

from alluvium_like.agents.record import Record
from alluvium_like.lifecycle import AgentOutcome, Ending

_SHOWN: Final = 300
_BROKEN_OFF: Final = "it exited with 0, but its stream broke off before the end"
_CUT_OFF: Final = {
    Ending.STALLED: AgentOutcome.STALL,
    Ending.TIMED_OUT: AgentOutcome.TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run came to; `resets_at`: when a limit ends (seconds since 1970), None unknown."""

    outcome: AgentOutcome
    reason: str = ""
    resets_at: float | None = None
    burst: bool = False


def judge_run(
    ending: Ending, exit_code: int | None, record: Record, *, needs_end: bool, words: str = ""
) -> Judged:
    """Judge one run. `words`: what the supervision says of its end."""
    end, limit, failure = record.end, record.limit, record.failure
    well = ending is Ending.EXITED and exit_code == 0
    if well and (end.ok if end else not needs_end) and not failure and not limit:
        if record.did_something or not needs_end:
            return Judged(AgentOutcome.OK)
        return Judged(AgentOutcome.CRASHED, "it ended without a word, and without using the model")
    if limit is not None:
        outcome = AgentOutcome.QUOTA
        return Judged(outcome, _short(limit.text), limit.resets_at, burst=not limit.quota)
    if failure is not None and failure.outcome is not None:
        return Judged(failure.outcome, _short(failure.text))
    if ending in _CUT_OFF:
        return Judged(_CUT_OFF[ending], words)
    if failure is not None:
        return Judged(AgentOutcome.CRASHED, _short(failure.text))
    if well and end is None:
        return Judged(AgentOutcome.CRASHED, _BROKEN_OFF)
    if well and end is not None:
        return Judged(AgentOutcome.CRASHED, _short(end.text) or "it told of a failure")
    return Judged(AgentOutcome.CRASHED, words)


def judge_exit(ending: Ending, exit_code: int | None, words: str) -> Judged:
    """Judge a run of a program whose stream nobody reads."""
    if ending is Ending.EXITED and exit_code == 0:
        return Judged(AgentOutcome.OK)
    return Judged(_CUT_OFF.get(ending, AgentOutcome.CRASHED), words)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
