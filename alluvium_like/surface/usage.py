"""What `usage` shows: tokens, cost and time of attempts, by task, by agent and by day (UTC)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from alluvium_like.clock import utc_text
from alluvium_like.config.agents import DEFAULT_PROFILE
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.rows import Row
from alluvium_like.workspace import Workspace

By = Literal["task", "agent", "day"]


@dataclass(frozen=True, slots=True)
class Used:
    """What some attempts used together.

    `estimated` is the part of `cost` that was reckoned from prices; `unknown` counts the attempts
    that were really started and of which nobody knows what they cost.
    """

    name: str
    attempts: int
    seconds: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float
    estimated: float
    unknown: int

    def document(self) -> dict[str, object]:
        """Return the shape that scripts rely on."""
        return asdict(self)


_KEYS: Final[dict[By, Callable[[Row], str]]] = {
    "task": lambda row: str(row["task_id"]),
    "agent": lambda row: str(row["agent"] or DEFAULT_PROFILE),
    "day": lambda row: str(row["started_at"])[:10],
}


def read_usage(workspace: Workspace, by: By, days: int) -> list[Used]:
    """Return what was used, and last of all the sum; `days` back from now, 0 for all of them."""
    since = utc_text(datetime.now(UTC) - timedelta(days=days)) if days else ""
    with StoreReader(workspace.database) as store:
        rows = store.usage(since)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_KEYS[by](row)].append(row)
    return [*(_sum(name, group) for name, group in groups.items()), _sum("total", rows)]


def _sum(name: str, rows: Sequence[Row]) -> Used:
    return Used(
        name=name,
        attempts=len(rows),
        seconds=round(sum(map(_seconds, rows)), 3),
        input_tokens=_total(rows, "input_tokens"),
        cached_tokens=_total(rows, "cached_tokens"),
        output_tokens=_total(rows, "output_tokens"),
        cost=round(_dollars(rows), 6),
        estimated=round(_dollars(r for r in rows if r["cost_source"] == "estimated"), 6),
        unknown=sum(row["cost"] is None and row["pid"] is not None for row in rows),
    )


def _total(rows: Iterable[Row], column: str) -> int:
    return sum(row[column] or 0 for row in rows)


def _dollars(rows: Iterable[Row]) -> float:
    return sum((row["cost"] or 0.0 for row in rows), start=0.0)


def _seconds(row: Row) -> float:
    begun = datetime.fromisoformat(row["started_at"])
    ended = datetime.fromisoformat(row["ended_at"]) if row["ended_at"] else datetime.now(UTC)
    return max((ended - begun).total_seconds(), 0.0)
