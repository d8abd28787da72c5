"""What attempts may use: limits of a task, of an agent's day, of everybody's day; all of them hard.

What ended attempts used is in their rows; what runs now is added as it is told, so that two
attempts at once cannot both take what is left. A cost that nobody knows cannot be limited: where a
limit of cost is set, that is told at the first tokens and not passed over.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Final

from alluvium_like.config import Config
from alluvium_like.config.agents import Limits
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.profiles import today
from alluvium_like.task import Spent, Task, TaskSettings

_NOTHING: Final = Spent()


async def day_used_up(parts: Parts, agent: str) -> str:
    """Return which budget of the day an agent has none left of, empty where it may work."""
    config = parts.settings.current
    if agent not in config.profiles or not _days_are_limited(config):
        return ""
    return _over_a_day(config, agent, await parts.store.spent_since(today()))


async def reached(parts: Parts, task: Task, agent: str, now: Spent, *, costs_known: bool) -> str:
    """Return which budget an attempt has reached, empty while there is none.

    Its own row and those of the others that run hold what they have used so far. `costs_known`:
    what the tokens so far cost is known, or will be told.
    """
    config = parts.settings.current
    limits = (config.profiles.get(agent, Limits()), config.budget)
    own = task.settings
    cost_is_limited = own.max_cost or any(each.limit_costs for each in limits)
    if now.tokens and not costs_known and cost_is_limited:
        return "a limit of cost is set, but nobody knows what this model costs; see [prices]"
    if own.max_cost or own.max_tokens or any(each.limit_tasks for each in limits):
        spent = await parts.store.spent_by_task(task.id, task.attempt)
        spent[agent] = spent.get(agent, _NOTHING).plus(now)
        if words := _over_a_task(config, agent, spent, own):
            return words
    if _days_are_limited(config):
        return _over_a_day(config, agent, await parts.store.spent_since(today()))
    return ""


def _days_are_limited(config: Config) -> bool:
    return any(each.limit_days for each in (config.budget, *config.profiles.values()))


def _over_a_task(config: Config, agent: str, spent: dict[str, Spent], own: TaskSettings) -> str:
    together = reduce(Spent.plus, spent.values(), _NOTHING)
    if words := _over(together, own.max_cost, own.max_tokens):
        return f"it used {words} that its settings allow; an answer allows as much again"
    for who, used, limits in _who_may(config, agent, spent):
        if words := _over(used, limits.max_cost, limits.max_tokens):
            return f"{who} used {words} for the task; an answer allows as much again"
    return ""


def _over_a_day(config: Config, agent: str, spent: dict[str, Spent]) -> str:
    for who, used, limits in _who_may(config, agent, spent):
        if words := _over(used, limits.max_cost_per_day, limits.max_tokens_per_day):
            return f"{who} used {words} today (UTC)"
    return ""


def _who_may(
    config: Config, agent: str, spent: dict[str, Spent]
) -> Iterator[tuple[str, Spent, Limits]]:
    """Yield an agent and all of them together, with what each has used and may use."""
    yield agent, spent.get(agent, _NOTHING), config.profiles.get(agent, Limits())
    yield "all agents together", reduce(Spent.plus, spent.values(), _NOTHING), config.budget


def _over(spent: Spent, cost: float, tokens: int) -> str:
    if cost and spent.cost >= cost:
        return f"{spent.cost:.2f} of {cost:.2f} US dollars"
    if tokens and spent.tokens >= tokens:
        return f"{spent.tokens:_} of {tokens:_} tokens"
    return ""
