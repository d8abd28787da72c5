"""What an attempt cost: as its agent reports it, else estimated from the prices, else unknown."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from alluvium_like.agents.events import Usage
from alluvium_like.config.agents import Price, price_of

_MILLION = 1_000_000


class CostSource(StrEnum):
    """Where a cost comes from; empty where there is none."""

    UNKNOWN = ""
    REPORTED = "reported"
    ESTIMATED = "estimated"


def cost_of(
    usage: Usage, model: str, prices: Mapping[str, Price]
) -> tuple[float | None, CostSource]:
    """Return the cost in US dollars, and where it comes from."""
    if usage.cost is not None and (usage.cost > 0 or not usage.tokens):
        return usage.cost, CostSource.REPORTED
    price = price_of(usage.model or model, prices)
    if price is None or not usage.tokens:
        return None, CostSource.UNKNOWN
    cached_price = price.input if price.cached is None else price.cached
    fresh = max(usage.input_tokens - usage.cached_tokens, 0)
    dollars = fresh * price.input + usage.cached_tokens * cached_price
    return (dollars + usage.output_tokens * price.output) / _MILLION, CostSource.ESTIMATED


def cost_of_all(
    runs: Iterable[Usage], model: str, prices: Mapping[str, Price]
) -> tuple[float | None, CostSource]:
    """Return what several runs cost together as far as that is known, and how well it is known."""
    costs = [cost_of(usage, model, prices) for usage in runs]
    known = [cost for cost, _ in costs if cost is not None]
    sources = {source for _, source in costs} or {CostSource.UNKNOWN}
    worst_first = (CostSource.UNKNOWN, CostSource.ESTIMATED, CostSource.REPORTED)
    return sum(known) if known else None, next(each for each in worst_first if each in sources)
