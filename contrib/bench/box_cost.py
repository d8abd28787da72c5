"""What the box costs an attempt: from its start to its end, with and without it.

Two daemons with equal repositories, one of them with `[sandbox].mode = "none"`, get one item after
the other, in turns; the agent writes a file and commits it. The times are those of the store.
"""

from pathlib import Path
from statistics import median

from beds import expect, rounded, seconds_of
from swarms import COMMITS, Daemon, daemon

from alluvium_like.sandbox.bubblewrap import find_problem
from alluvium_like.store.reader import StoreReader


def measure(folder: Path, samples: int) -> dict[str, object]:
    """Return the milliseconds of an attempt on both sides, and what the box adds."""
    problem = find_problem()
    expect(not problem, f"there can be a box: {problem}")
    without, within = [], []
    with (
        daemon(folder / "open", COMMITS, settings={"sandbox": {"mode": "none"}}) as unboxed,
        daemon(folder / "boxed", COMMITS, settings={"sandbox": {"mode": "bubblewrap"}}) as boxed,
    ):
        for side in (unboxed, boxed):  # each once for the caches
            _attempt(side, 0)
        for number in range(1, samples + 1):
            without.append(_attempt(unboxed, number))
            within.append(_attempt(boxed, number))
    return {
        "without_ms": rounded(without),
        "within_ms": rounded(within),
        "without_median_ms": round(median(without), 1),
        "within_median_ms": round(median(within), 1),
        "added_ms": round(median(within) - median(without), 1),
    }


def _attempt(running: Daemon, number: int) -> float:
    """Return the milliseconds of the attempt of one more item."""
    running.settle()
    running.drop(1)
    newest = max(running.wait(number + 1), key=lambda task: task.seq)
    with StoreReader(running.space.database) as store:
        (attempt,) = store.attempts(newest.id)
    expect(attempt.verdict == "to_integrator", "the agent committed its work")
    return (seconds_of(attempt.ended_at or "") - seconds_of(attempt.started_at)) * 1000
