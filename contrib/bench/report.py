"""The bars: what each figure is measured against, and where it stands in the documents.

Results of a day lie in one folder, a document a measure, so measures may be run one by one; the
table is made of all that are there.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TABLE_NAME = "table.txt"
_HEAD = ("measure", "against", "figure", "bar", "met")


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and what it has to be: at most `limit`, or at least that with `at_least`."""

    measure: str
    figure: str  # where it stands in the document of the measure
    what: str
    against: str
    limit: float
    unit: str
    at_least: bool = False

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure is good enough."""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def shown(self, figure: float) -> str:
        """Return a figure with its unit."""
        return f"{figure:g} {self.unit}".strip()


_GIT = "plain git, one after another"
_SMALL, _BIG = "40 tasks, 100 files", "8 tasks, 20,000 files, warm"
_DEFAULTS, _TUNED = "the peer with its defaults", "the peer tuned"
_FIRST = "drop to agent running, warm, {} files"
_ADD = "git worktree add -b and a spawn"
_READY = "64 tasks ready, tests of 2 s, {}, parallel_tests {}"
_STORE = "100,000 done tasks: {}"
_DROPS = "10,000 drops: {}"

BARS = (
    Bar("batch", "seconds_ratio", _SMALL, _GIT, 0.8, "x"),
    Bar("git-processes", "per_task", "git processes a task", "", 10, ""),
    Bar("big-tree", "seconds_ratio", _BIG, _GIT, 0.5, "x"),
    Bar("peer", "times_faster_than_defaults", _SMALL, _DEFAULTS, 100, "x faster", True),
    Bar("peer", "times_faster_than_tuned", _SMALL, _TUNED, 1, "x faster", True),
    Bar("peer-big-tree", "times_faster_than_defaults", _BIG, _DEFAULTS, 100, "x faster", True),
    Bar("peer-big-tree", "times_faster_than_tuned", _BIG, _TUNED, 1, "x faster", True),
    *(
        Bar("queue", f"{kind}_{parallel}.{figure}", _READY.format(what, parallel), to, limit, unit)
        for kind, figure, what, to, limit, unit in (
            ("green", "runs", "all green", "serial, 64 runs", 2, "runs"),
            ("bad", "runs", "5 % bad", "serial, 64 runs", 25, "runs"),
            ("bad", "wrongly_judged", "5 % bad: wrongly judged", "", 0, ""),
        )
        for parallel in (1, 2)
    ),
    Bar("first-word", "small.ratio", _FIRST.format("100"), _ADD, 1.0, "x"),
    Bar("first-word", "big.ratio", _FIRST.format("20,000"), _ADD, 1.0, "x"),
    Bar("box", "added_ms", "what the box adds to an attempt", "the same without", 50, "ms"),
    Bar("scale", "idle.cpu_ms", _STORE.format("idle, CPU a minute"), "", 50, "ms"),
    Bar("scale", "status_ms.median", _STORE.format("status"), "", 300, "ms"),
    Bar("scale", "list_ms.median", _STORE.format("list"), "", 300, "ms"),
    Bar("scale", "start_ms.median", _STORE.format("start"), "", 1000, "ms"),
    Bar("scale", "idle.resident_mib", _STORE.format("idle, memory"), "", 60, "MiB"),
    Bar("scale", "drops.peak_resident_mib", _DROPS.format("memory"), "", 200, "MiB"),
    Bar("scale", "drops.first_agent_seconds", _DROPS.format("first agent"), "", 1, "s"),
)


def look_up(document: Mapping[str, object], place: str) -> float | None:
    """Return the figure at a dotted place of a document, None where there is none."""
    value: object = document
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def judged(figures: Mapping[str, Mapping[str, object]]) -> list[dict[str, object]]:
    """Return every bar of the measures that were taken, with its figure, and whether it is met."""
    found: list[dict[str, object]] = []
    for bar in BARS:
        if bar.measure in figures:
            figure = look_up(figures[bar.measure], bar.figure)
            found.append(
                {
                    "measure": bar.what,
                    "against": bar.against,
                    "figure": figure,
                    "bar": bar.limit,
                    "at": "least" if bar.at_least else "most",
                    "unit": bar.unit,
                    "met": figure is not None and bar.is_met(figure),
                    "place": f"{bar.measure}.{bar.figure}",
                }
            )
    return found


def table(figures: Mapping[str, Mapping[str, object]]) -> str:
    """Return the bars as lines for people."""
    rows = [_HEAD, *_rows(figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def _rows(figures: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, ...]]:
    for bar in BARS:
        if bar.measure not in figures:
            continue
        figure = look_up(figures[bar.measure], bar.figure)
        sign = ">=" if bar.at_least else "<="
        told = "none" if figure is None else bar.shown(figure)
        met = "yes" if figure is not None and bar.is_met(figure) else "NO"
        yield bar.what, bar.against, told, f"{sign} {bar.shown(bar.limit)}", met


def write(folder: Path, name: str, document: Mapping[str, object]) -> None:
    """Store the document of one measure, and the table of all that the folder holds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / TABLE_NAME).write_text(table(read(folder)))


def read(folder: Path) -> dict[str, dict[str, object]]:
    """Return the figures of all measures that a folder holds, by name."""
    documents = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: document["figures"] for name, document in documents.items()}
