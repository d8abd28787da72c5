"""From a drop to the agent's own first word, against `git worktree add -b` and a spawn.

Both sides work on the same repository, in turns, with the same agent: a script that tells when it
began. The daemon is warm and idle at every drop; bare git goes through no daemon at all.
"""

import os
import subprocess
import time
from pathlib import Path
from statistics import median

from beds import expect, rounded
from swarms import Daemon, daemon

AGENT = 'date +%s%N > "$ALLUVIUM_AGENT_DIR/started"'


def measure(folder: Path, files: int, samples: int) -> dict[str, object]:
    """Return the milliseconds of both sides, and the ratio of their medians."""
    by_drop, bare = [], []
    with daemon(folder / "first-word", AGENT, files) as running:
        by_bare_git(running, 0)  # each side once for the caches
        by_daemon(running, 0)
        os.sync()
        for number in range(1, samples + 1):
            bare.append(by_bare_git(running, number))
            by_drop.append(by_daemon(running, number))
    return {
        "files": files,
        "ours_ms": rounded(by_drop),
        "git_ms": rounded(bare),
        "ours_median_ms": round(median(by_drop), 1),
        "git_median_ms": round(median(bare), 1),
        "ratio": round(median(by_drop) / median(bare), 3),
    }


def by_daemon(running: Daemon, number: int) -> float:
    """Return the milliseconds from a rename into the idle inbox to the agent's first word."""
    running.settle()
    dropped = running.drop(1)
    newest = max(running.wait(number + 1), key=lambda task: task.seq)
    return _told(running.space.task(newest.id).agent) - dropped * 1000


def by_bare_git(running: Daemon, number: int) -> float:
    """Return the milliseconds that a new worktree and the spawn of the agent in it take."""
    bench = running.bench
    tree, told = bench.root / "trees" / str(number), bench.root / "told" / str(number)
    told.mkdir(parents=True)
    running.settle()
    begun = time.time()
    subprocess.run(
        ["git", "worktree", "add", "-q", "-b", f"bare/{number}", str(tree), "main"],
        cwd=bench.repo, env=bench.environment, check=True,
    )  # fmt: skip
    agent = subprocess.run(
        ["sh", "-ec", AGENT],
        cwd=tree, env={**bench.environment, "ALLUVIUM_AGENT_DIR": str(told)}, check=False,
    )  # fmt: skip
    expect(agent.returncode == 0, "the agent ended well")
    bench.run("git", "worktree", "remove", "--force", str(tree), cwd=bench.repo)
    return _told(told) - begun * 1000


def _told(folder: Path) -> float:
    return int((folder / "started").read_text()) / 1e6
