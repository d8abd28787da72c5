"""What the earlier attempts of a task mean for the next one, and for what becomes of the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile

from alluvium_like.agents.events import Usage
from alluvium_like.lifecycle import PARKING, AgentOutcome, AttemptVerdict, Ending
from alluvium_like.task import Attempt


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a task that an agent is to go on with; `continues`: where work was left."""

    agent: str
    continues: bool
    answers: list[tuple[str, str]]
    earlier: list[Attempt]

    @property
    def session(self) -> str:
        """The session to go on with: that of the last attempt which had one."""
        last = next((each for each in reversed(self.earlier) if each.session), None)
        if last is None or not self.continues or last.agent != self.agent:
            return ""
        return "" if last.outcome == AgentOutcome.CONTEXT else last.session

    @property
    def told(self) -> Usage:
        """What all attempts with that session have told to have used."""
        same = (each for each in self.earlier if each.session and each.session == self.session)
        return reduce(Usage.plus, map(_used_by, same), Usage())


def was_cut_off(earlier: Sequence[Attempt]) -> bool:
    """Tell whether an attempt was ended before it was through, and none was through since."""
    for attempt in reversed(earlier):
        if attempt.outcome in PARKING or attempt.ending == Ending.BUDGET:
            return True
        if attempt.ending == Ending.EXITED and attempt.outcome == AgentOutcome.OK:
            return False
    return False


def refusals(earlier: Sequence[Attempt], agent: str) -> list[Attempt]:
    """Return the last attempts in a row that an agent's provider refused, the last one first."""
    row = takewhile(lambda each: each.verdict == AttemptVerdict.AGAIN_UNCOUNTED, reversed(earlier))
    return [each for each in row if each.agent == agent and each.outcome in PARKING]


def _used_by(attempt: Attempt) -> Usage:
    return Usage(attempt.input_tokens or 0, attempt.cached_tokens or 0, attempt.output_tokens or 0)
