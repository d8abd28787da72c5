"""How many test runs the merge queue needs for tasks that are all ready when it begins.

The integrator is off while quick agents finish; a reload turns it on. The test leaves the time of
every start outside the tree. A task is bad when its work holds a file named bad-*; which ones are,
is drawn with a fixed seed.
"""

import random
import time
from pathlib import Path

from beds import seconds_of
from swarms import daemon

from alluvium_like.lifecycle import State

BAD_SHARE = 0.05
SEED = 64
_GRACE_SECONDS = 120.0

AGENT = """\
case "$ALLUVIUM_TASK_ID" in *-bad-*) kind=bad;; *) kind=good;; esac
printf '%s\\n' "$ALLUVIUM_TASK_ID" > "$kind-$ALLUVIUM_TASK_ID.txt"
git add -A
git commit -q -m "Add a file"
"""
TEST = """\
date +%s%N >> '{runs}'
sleep {seconds:g}
for file in bad-*; do test ! -e "$file" || exit 1; done
"""


def measure(folder: Path, tasks: int, test_seconds: float) -> dict[str, object]:
    """Return what the queue needed with and without bad tasks, with one and two tests at a time."""
    bad = frozenset(random.Random(SEED).sample(range(tasks), max(1, round(tasks * BAD_SHARE))))
    found: dict[str, object] = {"tasks": tasks, "test_seconds": test_seconds, "serial_runs": tasks}
    for name, wrong in (("green", frozenset[int]()), ("bad", bad)):
        for parallel in (1, 2):
            root = folder / f"queue-{name}-{parallel}"
            found[f"{name}_{parallel}"] = _drain(root, tasks, test_seconds, wrong, parallel)
    return found


def _drain(
    root: Path, tasks: int, test_seconds: float, bad: frozenset[int], parallel: int
) -> dict[str, object]:
    open_to_tests = root.with_name(f"{root.name}-open")
    open_to_tests.mkdir()
    runs = open_to_tests / "runs"
    integration: dict[str, object] = {
        "run_tests": [TEST.format(runs=runs, seconds=test_seconds)],
        "max_revision_rounds": 0,
        "parallel_tests": parallel,
    }
    waiting: dict[str, dict[str, object]] = {
        "integration": {**integration, "enabled": False},
        "sandbox": {"writable": [str(open_to_tests)]},
    }
    with daemon(root, AGENT, settings=waiting) as running:
        running.drop(tasks, lambda number: "bad" if number in bad else "good")
        running.wait_until(tasks, lambda task: task.state is State.WORKER_DONE)
        running.settle()
        running.configure({"integration": {"enabled": True}})
        begun = time.time()
        running.cli("reload")
        ended = running.rest(tasks, _GRACE_SECONDS + 2 * tasks * (test_seconds + 1))
        sent_back = [task.name for task in ended if task.state is not State.DONE]
        should = [task.name for task in ended if task.name.endswith("-bad.md")]
        return {
            "runs": len(runs.read_text().split()),
            "seconds": round(max(seconds_of(task.updated_at) for task in ended) - begun, 2),
            "bad": sorted(bad),
            "sent_back": len(sent_back),
            "wrongly_judged": len(set(sent_back) ^ set(should)),
            "landed": running.bench.landed(),
        }
