"""What is measured: sides that bring a batch of tasks onto main, ours and others, by one interface.

A `Shell` is plain git, one task after the other. A `Swarm` takes items from an inbox; its times
come from its own store, so watching it costs no precision.
"""

import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import nan
from os import times
from pathlib import Path
from typing import TypeVar

import tomli_w
from beds import FILES, Bench, Cost, cpu_seconds, expect, seconds_of, wait_for

from alluvium_like.lifecycle import ENDED, State
from alluvium_like.lock import is_locked
from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

SLOTS = 8
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.2  # the ends are taken from the store, so looking rarely costs no precision
_QUIET_LOOKS = 3
PROGRAM = [sys.executable, "-P", "-m", "alluvium_like"]
RESTING = ENDED | {State.NEEDS_HUMAN, State.NEEDS_REVISION}

Settings = Mapping[str, Mapping[str, object]]

COMMITS = """\
printf '%s\\n' "$ALLUVIUM_TASK_ID" > "file-$ALLUVIUM_TASK_ID.txt"
git add -A
git commit -q -m "Add a file"
"""
PLAIN_GIT = """\
set -eu
cd repo
for number in $(seq "$1" "$2"); do
    tree="../trees/$number"
    git worktree add -q -b "task/$number" "$tree" main
    printf '%s\\n' "$number" > "$tree/file-$number.txt"
    git -C "$tree" add -A
    git -C "$tree" commit -q -m "Add a file"
    base=$(git rev-parse main)
    merged=$(git merge-tree --write-tree "$base" "task/$number")
    landed=$(git commit-tree "$merged" -p "$base" -m "Add a file")
    git update-ref refs/heads/main "$landed" "$base"
    git worktree remove --force "$tree"
    git branch -q -D "task/$number"
done
"""


class Side(ABC):
    """One way to bring tasks onto main, in a bed of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @abstractmethod
    def batch(self, count: int, seconds: float = PATIENCE_SECONDS) -> Cost:
        """Bring that many tasks onto main and return what it took, after `seconds` at most."""

    def settle(self) -> None:  # noqa: B027 - most sides do nothing between batches
        """Wait until nothing is being done any more."""

    @abstractmethod
    def stop(self) -> None:
        """End what runs."""


Open = Callable[[Path, int], AbstractContextManager[Side]]
"""Makes a side in a new folder, with a repository of that many files."""


class Shell(Side):
    """Plain git, one task after the other."""

    def batch(self, count: int, seconds: float = PATIENCE_SECONDS) -> Cost:
        """Run the script for that many tasks, each with a number of its own."""
        done = self.bench.landed()
        before, begun = times(), time.monotonic()
        self.bench.run("sh", "-c", PLAIN_GIT, "plain-git", str(done + 1), str(done + count))
        took, after = time.monotonic() - begun, times()
        used = after.children_user + after.children_system
        used -= before.children_user + before.children_system
        expect(self.bench.landed() == done + count, "every task landed as one commit")
        return Cost(took, used, count, count)

    def stop(self) -> None:
        """Do nothing: the script has ended."""


@dataclass(frozen=True, slots=True)
class Ends:
    """When tasks landed, UTC seconds, oldest first, and how many came to another end."""

    landed: list[float]
    others: int


class Swarm(Side):
    """What takes items from an inbox and lands what agents made of them."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.root = bench.root / "workspace"

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process that does the work, with its children."""

    @abstractmethod
    def alive(self) -> bool:
        """Tell whether it still runs."""

    @abstractmethod
    def ends(self) -> Ends:
        """Return how the tasks that ended did end."""

    def drop(self, count: int, names: Callable[[int], str] = "{}".format) -> float:
        """Rename that many new files into the inbox; return when the first one was, UTC seconds."""
        ready = self.root / "ready"
        ready.mkdir(exist_ok=True)
        stamp = time.time_ns()
        files = [f"{stamp}-{number:05d}-{names(number)}.md" for number in range(count)]
        for name in files:
            (ready / name).write_text("please\n")
        first = time.time()
        for name in files:
            (ready / name).rename(self.root / "inbox" / name)
        return first

    def batch(self, count: int, seconds: float = PATIENCE_SECONDS) -> Cost:
        """Measure from the first drop until the last task landed."""
        done, before = self.bench.landed(), cpu_seconds(self.pid, children=True)
        old = self.ends()
        first = self.drop(count)

        def is_over() -> bool:
            now = self.ends()
            ended = len(now.landed) + now.others - len(old.landed) - old.others
            return ended == count or not self.alive()

        over = wait_for(is_over, seconds, every=LOOK_SECONDS)
        used = cpu_seconds(self.pid, children=True) - before if self.alive() else nan
        ends = self.ends().landed[len(old.landed) :]
        took = max(ends) - first if over and ends else time.time() - first
        return Cost(took, used, self.bench.landed() - done, count, capped=not over)


class Daemon(Swarm):
    """Our daemon over the repository of a bench, with a shell script as its agent."""

    def __init__(self, bench: Bench, script: str, settings: Settings | None = None) -> None:
        super().__init__(bench)
        self.space = Workspace.at(self.root)
        self.cli("init", str(self.root), "--repo", str(bench.repo), inside=False)
        self._settings: dict[str, dict[str, object]] = {
            "repo": {"path": str(bench.repo)},
            "agent": {"command": ["sh", "-ec", script]},
            "integration": {"base_branch": "main"},
            "safety": {"max_workers": SLOTS, "inbox_settle_seconds": 0},
        }
        self.configure(settings or {})
        self.cli("start")

    def configure(self, settings: Settings) -> None:
        """Write config.toml with these settings over those that it has."""
        for table, keys in settings.items():
            self._settings.setdefault(table, {}).update(keys)
        self.space.config_file.write_text(tomli_w.dumps(self._settings))

    def cli(self, *args: str, inside: bool = True) -> str:
        """Run one command of the program."""
        where = ["-C", str(self.space.root)] if inside else []
        return self.bench.run(*PROGRAM, *where, *args)

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return int(self.space.pid_file.read_text())

    def alive(self) -> bool:
        """Tell whether the daemon holds its workspace."""
        return is_locked(self.space)

    def tasks(self) -> list[Task]:
        """Return all tasks, oldest first."""
        with StoreReader(self.space.database) as store:
            return store.tasks()

    def ends(self) -> Ends:
        """Return how the tasks that ended did end."""
        resting = [task for task in self.tasks() if task.state in RESTING]
        landed = [task for task in resting if task.state is State.DONE]
        at = sorted(seconds_of(task.updated_at) for task in landed)
        return Ends(at, len(resting) - len(landed))

    def batch(self, count: int, seconds: float = PATIENCE_SECONDS) -> Cost:
        """Measure from the first drop until the last task landed: all must. Raises NotSo."""
        cost = super().batch(count, seconds)
        expect(cost.landed == count, f"all {count} tasks landed: {cost}")
        return cost

    def wait(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Task]:
        """Wait until that many tasks have ended, all as done, and return them. Raises NotSo."""
        tasks = self.rest(count, seconds)
        for task in tasks:
            expect(task.state is State.DONE, f"{task.name} is done ({task.reason})")
        return tasks

    def rest(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Task]:
        """Wait until that many tasks need nobody or a person, and return them. Raises NotSo."""
        return self.wait_until(count, lambda task: task.state in RESTING, seconds)

    def wait_until(
        self, count: int, holds: Callable[[Task], bool], seconds: float = PATIENCE_SECONDS
    ) -> list[Task]:
        """Wait until something holds for that many tasks, and return them. Raises NotSo."""
        found: list[Task] = []

        def enough() -> bool:
            found[:] = filter(holds, self.tasks())
            expect(self.alive(), "the daemon lives")
            return len(found) >= count

        expect(
            wait_for(enough, seconds, every=LOOK_SECONDS),
            f"{count} tasks are there within {seconds:g} s: {len(found)}",
        )
        return found

    def settle(self) -> None:
        """Wait until the daemon has used no processor time for a while."""
        seen: list[float] = []

        def is_quiet() -> bool:
            seen.append(cpu_seconds(self.pid, children=True))
            return len(seen) > _QUIET_LOOKS and seen[-1] - seen[-1 - _QUIET_LOOKS] < 0.015

        expect(wait_for(is_quiet, PATIENCE_SECONDS, every=LOOK_SECONDS), "the daemon comes to rest")

    def stop(self) -> None:
        """Stop the daemon, agents at once."""
        self.cli("stop", "--force", "--timeout", "30")


_S = TypeVar("_S", bound=Side)


@contextmanager
def running(side: _S) -> Iterator[_S]:
    """Use a side; stop it and delete its folder afterwards."""
    try:
        yield side
    finally:
        side.stop()
        shutil.rmtree(side.bench.root)


def daemon(
    root: Path, script: str, files: int = FILES, settings: Settings | None = None
) -> AbstractContextManager[Daemon]:
    """Start a daemon in a new folder; stop it and delete the folder afterwards."""
    return running(Daemon(Bench(root, files), script, settings))


def shell(root: Path, files: int) -> AbstractContextManager[Side]:
    """Open plain git."""
    return running(Shell(Bench(root, files)))


def ours(root: Path, files: int) -> AbstractContextManager[Side]:
    """Open our daemon with an agent that adds a file."""
    return daemon(root, COMMITS, files)
