"""What attempts may use: limits of a task, of an agent's day, of everybody's day; all of them hard.

What ended attempts used is in their rows; what runs now is added as it is told, so that two
attempts at once cannot both take what is left. A cost that nobody knows cannot be limited: where a
limit of cost is set, that is told at the first tokens and not passed over.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Final

from alluvium_like.agents.prices import CostSource
from alluvium_like.config import Config
from alluvium_like.config.agents import Limits
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.profiles import today
from alluvium_like.task import Spent

_NOTHING: Final = Spent()


async def day_used_up(parts: Parts, agent: str) -> str:
    """Return which budget of the day an agent has none left of, empty where it may work."""
    config = parts.settings.current
    if agent not in config.profiles or not _limits_days(config):
        return ""
    spent = await parts.store.spent_since(today())
    return next(_days_reached(config, agent, spent), "")


async def reached(
    parts: Parts, task_id: str, attempt: int, agent: str, now: Spent, source: CostSource
) -> str:
    """Return which budget an attempt has reached, empty while there is none.

    Its own row and those of the others that run hold what they have used so far.
    """
    config = parts.settings.current
    limits = (config.profiles.get(agent, Limits()), config.budget)
    if now.tokens and source is CostSource.UNKNOWN and any(_limits_cost(each) for each in limits):
        return "a limit of cost is set, but nobody knows what this model costs; see [prices]"
    if any(each.max_cost or each.max_tokens for each in limits):
        spent = (await parts.store.spent_by_task(task_id, attempt)).plus(now)
        for each in limits:
            for words in _over("the task", spent, each.max_cost, each.max_tokens):
                return f"{words}; an answer allows as much again"
    if _limits_days(config):
        return next(_days_reached(config, agent, await parts.store.spent_since(today())), "")
    return ""


def _limits_cost(limits: Limits) -> bool:
    return bool(limits.max_cost or limits.max_cost_per_day)


def _limits_days(config: Config) -> bool:
    everybody = (config.budget, *config.profiles.values())
    return any(each.max_cost_per_day or each.max_tokens_per_day for each in everybody)


def _days_reached(config: Config, agent: str, spent: dict[str, Spent]) -> Iterator[str]:
    total = reduce(Spent.plus, spent.values(), _NOTHING)
    for who, used, limits in (
        (agent, spent.get(agent, _NOTHING), config.profiles.get(agent, Limits())),
        ("all agents together", total, config.budget),
    ):
        per_day = limits.max_cost_per_day, limits.max_tokens_per_day
        for words in _over(who, used, *per_day):
            yield f"{words} today (UTC)"


def _over(who: str, spent: Spent, cost: float, tokens: int) -> Iterator[str]:
    if cost and spent.cost >= cost:
        yield f"{who} used {spent.cost:.2f} of {cost:.2f} US dollars"
    if tokens and spent.tokens >= tokens:
        yield f"{who} used {spent.tokens:_} of {tokens:_} tokens"
