"""What Git says about the tasks of a workspace, for a comparison with what the rows say.

Read-only; a few processes whatever the number of tasks.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alluvium_like.gitrepo.runner import Git, null_split
from alluvium_like.messages import TRAILER


@dataclass(frozen=True, slots=True)
class Landings:
    """The commits that name a task: on the base's own line, and anywhere in its history."""

    line: Mapping[str, list[str]] = field(default_factory=dict)
    anywhere: Mapping[str, list[str]] = field(default_factory=dict)


async def read_landings(git: Git, git_dir: Path, tip: str) -> Landings:
    """Return by task what the history of `tip` holds of it, by trailer. Raises GitFailed."""
    return Landings(
        await _by_task(git, git_dir, "--first-parent", tip), await _by_task(git, git_dir, tip)
    )


async def _by_task(git: Git, git_dir: Path, *which: str) -> dict[str, list[str]]:
    done = await git.run(
        "-c",
        "log.showSignature=false",
        "log",
        "-z",
        f"--grep=^{TRAILER}:",
        f"--format=%H %(trailers:key={TRAILER},valueonly,separator=%x20)",
        *which,
        "--",
        git_dir=git_dir,
    )
    found: dict[str, list[str]] = defaultdict(list)
    for entry in null_split(done.stdout):
        commit, *tasks = entry.split()
        if len(tasks) == 1:  # as the lane reads it
            found[tasks[0]].append(commit)
    return dict(found)
