"""Which agent works on a task now: the chosen one, or what takes over while that one is parked.

An agent is parked when its quota is used up, nobody is logged in, its provider does not answer, or
its budget of the day is gone: that is about the agent and no task's fault. Its tasks wait and
nothing is counted against them; others go on. It goes on by itself, at the time that the provider
named or after a pause that grows until an attempt has shown that it works; a person's `resume` lets
it try at once. Rows keep it: they outlast the daemon. What several attempts tell of one outage
counts once, and what they end well with was begun before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from alluvium_like.agents.outcome import Judged
from alluvium_like.clock import time_of_day, utc_after, utc_now, utc_text
from alluvium_like.config import Config
from alluvium_like.config.agents import Profile
from alluvium_like.errors import ConfigError
from alluvium_like.lifecycle import PARKING, AgentOutcome, Ending
from alluvium_like.log import get_logger
from alluvium_like.masking import mask
from alluvium_like.stages.parts import Parts
from alluvium_like.task import Parked, Task

log = get_logger(__name__)

BURST_PAUSE: Final = timedelta(seconds=30)
_PAUSES: Final = {  # the first pause, and the longest
    AgentOutcome.QUOTA: (timedelta(minutes=5), timedelta(hours=2)),
    AgentOutcome.AUTH: (timedelta(minutes=5), timedelta(hours=1)),
    AgentOutcome.UNREACHABLE: (timedelta(seconds=15), timedelta(minutes=15)),
}
_LONGEST: Final = timedelta(days=8)
"""No quota lasts longer than a week; a time beyond it is a mistake, or the clock was set back."""
_AFTER_RESET: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The agent of one attempt: as it was configured when that began, and as its task says."""

    name: str
    profile: Profile


class Profiles:
    """The agents of the configuration with what is known of them now."""

    def __init__(self, config: Config, parked: Iterable[Parked]) -> None:
        self._config = config
        now, far = utc_now(), utc_after(_LONGEST)
        self._until = {
            row.agent: row.until
            for row in parked
            if now < row.until <= far and row.agent in config.profiles
        }

    def working(self, choice: str) -> str | None:
        """Return the agent that works for a choice now, None while it has to wait.

        One that the configuration does not know is returned as it is.
        """
        name = self._config.chosen(choice)
        while name in self._until:
            name = self._config.profiles[name].fallback
        return name or None

    def for_task(self, task: Task) -> Chosen | None:
        """Return the agent that works on a task now, None while it has to wait.

        Raises ConfigError where the configuration has no such agent.
        """
        name = self.working(task.agent)
        if name is None:
            return None
        profile = self._config.profiles.get(name)
        if profile is None:
            raise ConfigError([f"config.toml has no agent '{name}', which this task names"])
        own: dict[str, object] = {}
        if task.settings.timeout_seconds:
            own["timeout_seconds"] = task.settings.timeout_seconds
        if task.settings.model and profile.preset and name == self._config.chosen(task.agent):
            own["model"] = task.settings.model
        return Chosen(name, profile.model_copy(update=own))

    def is_parked(self, agent: str) -> bool:
        """Tell whether an agent itself has to wait."""
        return agent in self._until

    @property
    def held(self) -> list[str]:
        """The choices whose tasks have to wait; "" is that of tasks which name no agent."""
        return [name for name in ("", *self._config.profiles) if self.working(name) is None]

    @property
    def next_change(self) -> str | None:
        """When the first of those that are parked goes on."""
        return min(self._until.values(), default=None)


async def profiles_now(parts: Parts) -> Profiles:
    """Return the agents with what the store says of them."""
    return Profiles(parts.settings.current, await parts.store.parked())


async def note_fared(parts: Parts, agent: str, judged: Judged) -> None:
    """Park an agent that could not work, or note that it can."""
    rows = {row.agent: row for row in await parts.store.parked()}
    row, waits = rows.get(agent), Profiles(parts.settings.current, rows.values()).is_parked(agent)
    if judged.outcome in PARKING:
        again = row is not None and row.outcome == judged.outcome
        times = row.times + (not waits) if row is not None and again else 1
        until = _pause_end(judged, times)
        guessed = judged.burst or judged.resets_at is None
        if row is not None and waits and guessed and until <= row.until:
            return  # what is known already says more
        await _park(parts, agent, judged.outcome, judged.reason, until, times)
    elif judged.outcome is AgentOutcome.OK and row is not None and not waits:
        await parts.store.write("unpark", agent=agent)
        log.info("agent_works_again", agent=agent)


async def park_for_today(parts: Parts, agent: str, reason: str) -> None:
    """Park an agent whose budget of the day is used up."""
    await _park(parts, agent, Ending.BUDGET, reason, tomorrow(), 1)


async def _park(
    parts: Parts, agent: str, outcome: str, reason: str, until: str, times: int
) -> None:
    await parts.store.write(
        "park", agent=agent, outcome=outcome, reason=mask(reason), until=until, times=times
    )
    log.warning("agent_parked", agent=agent, until=until, reason=reason)


def _pause_end(judged: Judged, times: int) -> str:
    """Return when an agent goes on that could not work so many times in a row."""
    if judged.resets_at is not None:
        left = judged.resets_at - time_of_day() + _AFTER_RESET.total_seconds()
        if 0 < left <= _LONGEST.total_seconds():
            return utc_after(timedelta(seconds=left))
    first, longest = _PAUSES[judged.outcome]
    if judged.burst:
        first = BURST_PAUSE
    return utc_after(min(first * 2.0 ** min(times - 1, 20), longest))


def today() -> str:
    """Return when this day began, in UTC."""
    return utc_text(_midnight())


def tomorrow() -> str:
    """Return when the next day begins, in UTC."""
    return utc_text(_midnight() + timedelta(days=1))


def _midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
