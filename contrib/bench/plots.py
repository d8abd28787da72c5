"""Pictures of a day's results; without matplotlib (the extra `bench`) there are none.

python contrib/bench/plots.py results/<date>
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures: TypeAlias = Mapping[str, Mapping[str, object]]

_MET, _MISSED = "tab:green", "tab:red"
_NEVER = 1e-3  # a figure of zero, on an axis that has none


def draw(folder: Path) -> list[Path]:
    """Draw what a folder of results holds, beside it, and return the pictures."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        print("no plots: matplotlib is not installed (the extra 'bench')", file=sys.stderr)
        return []
    mpl.use("agg")
    figures = report.read(folder)
    drawn = []
    for name, paint in (("bars", _bars), ("batches", _batches), ("first-word", _first_word)):
        picture = paint(figures)
        if picture is not None:
            picture.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
            drawn.append(folder / f"{name}.png")
    return drawn


def _axes(wide: float, high: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    picture = Figure(figsize=(wide, high))
    return picture, picture.add_subplot()


def _bars(figures: Figures) -> "Figure | None":
    """Every figure as a share of its bar: left of the line is better."""
    rows = []
    for bar in report.BARS:
        figure = report.look_up(figures.get(bar.measure, {}), bar.figure)
        if figure is not None and bar.limit:
            share = bar.limit / max(figure, _NEVER) if bar.at_least else figure / bar.limit
            name = f"{bar.what}, against {bar.against}" if bar.against else bar.what
            rows.append((name, share, bar.is_met(figure), bar.shown(figure)))
    if not rows:
        return None
    picture, axes = _axes(9, 0.3 * len(rows) + 1)
    names, shares, met, texts = zip(*reversed(rows), strict=True)
    painted = axes.barh(names, shares, color=[_MET if is_met else _MISSED for is_met in met])
    axes.bar_label(painted, labels=texts, padding=3, fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("share of the bar; left of the line meets it")
    return picture


def _batches(figures: Figures) -> "Figure | None":
    """Every side's seconds of each batch, one dot a run."""
    works = {
        "40 tasks, 100 files": "batch",
        "8 tasks, 20,000 files": "big-tree",
        "40 tasks, 100 files (peer)": "peer",
        "8 tasks, 20,000 files (peer)": "peer-big-tree",
    }
    rows = [
        (f"{work}: {name}", side["seconds"])
        for work, measure in works.items()
        for name, side in figures.get(measure, {}).items()
        if isinstance(side, Mapping) and "seconds" in side
    ]
    if not rows:
        return None
    picture, axes = _axes(8, 0.3 * len(rows) + 1)
    for name, seconds in reversed(rows):
        axes.plot(seconds, [name] * len(seconds), "o", alpha=0.6, color="tab:blue")
    axes.set_xscale("log")
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.set_xlabel("seconds from the first drop to the last task landed")
    return picture


def _first_word(figures: Figures) -> "Figure | None":
    """The milliseconds to an agent's first word, sorted, of both sides."""
    picture, axes = _axes(6, 3.5)
    lines = 0
    for found in figures.get("first-word", {}).values():
        if not isinstance(found, Mapping):
            continue
        for side, name in (("ours_ms", "dropped"), ("git_ms", "git worktree add")):
            axes.plot(sorted(found[side]), "o-", label=f"{name}, {found['files']:,} files")
            lines += 1
    if not lines:
        return None
    axes.set_yscale("log")
    axes.set_ylabel("ms to the agent's first word")
    axes.set_xlabel("samples, the quickest first")
    axes.legend(fontsize=7)
    return picture


if __name__ == "__main__":
    for path in draw(Path(sys.argv[1])):
        print(path)
