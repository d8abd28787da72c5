"""The demo's workspace: a small repository with tests, four items for its inbox, and their story.

The first item is dropped alone and the others once its agent is done, while the integrator has
it: so it is always the first to land, and the others meet a base that moves under them. Two of the
patches decide the same question in opposite ways, and the third breaks a test.
"""

import os
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import anyio
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from alluvium_like.clock import monotonic
from alluvium_like.config.text import render_for_init
from alluvium_like.durable import write_durable
from alluvium_like.errors import AlluviumError, WorkspaceError
from alluvium_like.gitrepo.owner import NEW_BRANCH
from alluvium_like.gitrepo.runner import Git, Identity
from alluvium_like.lifecycle import ACTIVE, State
from alluvium_like.lock import is_locked
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.rows import Row
from alluvium_like.surface.initialise import initialise
from alluvium_like.surface.submit import submit_text
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

_SETTLE_SECONDS: Final = 0.2
_SLOW_LOOK_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 120.0
_WITH_AGENT: Final = frozenset({State.QUEUED, State.RUNNING})
_AUTHOR: Final = Identity("Alluvium Demo", "demo@localhost")

_STATS: Final = '''\
"""Small statistics."""


def total(numbers):
    """Return the sum of the numbers."""
    return sum(numbers)


def mean(numbers):
    """Return the arithmetic mean of the numbers."""
    return total(numbers) / len(numbers)
'''
_TESTS: Final = """\
import unittest

import stats


class Total(unittest.TestCase):
    def test_of_fractions(self):
        self.assertEqual(stats.total([0.5, 0.25]), 0.75)


class Mean(unittest.TestCase):
    def test_of_two(self):
        self.assertEqual(stats.mean([1, 2]), 1.5)
"""
_PROJECT: Final = {
    "README.md": "# Stats\n\nA few functions; `python -m unittest` tests them.\n",
    "stats.py": _STATS,
    "test_stats.py": _TESTS,
}
_MEAN_DOC: Final = '    """Return the arithmetic mean of the numbers."""\n'
_IDEAS: Final = b"""\
# Ideas

- a median, and what it should be of an even number of numbers
- a command line

Nothing here asks for a change: the built-in agent carries out patches alone.
"""


@dataclass(frozen=True, slots=True)
class Drop:
    """One item for the inbox and why it is there."""

    name: str
    content: bytes
    purpose: str


@dataclass(frozen=True, slots=True)
class Demo:
    """A workspace that is ready to be served, and what is going to be dropped there."""

    workspace: Workspace
    drops: tuple[Drop, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that has just happened to an item; `state` is None when it was dropped."""

    seconds: float
    name: str
    text: str
    reason: str
    state: State | None = None


def make_demo(path: Path | None) -> Demo:
    """Make the workspace at `path`, or in a temporary folder that is kept. Raises AlluviumError."""
    if path is None:
        path = Path(tempfile.mkdtemp(prefix="alluvium-like-demo-"))
    elif os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise WorkspaceError(f"{path}: is not an empty folder; name a new one for the demo")
    initialise(path, repo=None, agent=None)
    workspace = Workspace.at(path)
    settings = {
        "integration.base_branch": NEW_BRANCH,
        "integration.run_tests": [f"{shlex.quote(sys.executable)} -m unittest"],
        "safety.inbox_settle_seconds": _SETTLE_SECONDS,
    }
    write_durable(workspace.config_file, render_for_init(settings).encode())
    return Demo(workspace, anyio.run(_fill_repository, workspace.repo))


def play(demo: Demo) -> Iterator[Step]:
    """Drop the items and yield what happens, until nothing more happens by itself.

    The daemon must run. Raises AlluviumError when it dies, or is not done after two minutes.
    """
    begun, told = monotonic(), 0
    first, *later = demo.drops
    with _Histories(demo.workspace.tasks) as histories:
        yield _drop(demo, first, begun)
        while True:
            histories.changed.clear()
            histories.watch_new()
            with StoreReader(demo.workspace.database) as store:
                tasks = store.tasks()
                events = [(event, task.name) for task in tasks for event in store.events(task.id)]
            for event, name in sorted(events, key=lambda pair: int(pair[0]["seq"])):
                if event["seq"] > told:
                    told = event["seq"]
                    yield _moved(event, name, monotonic() - begun)
            if later and tasks and tasks[0].state not in _WITH_AGENT:
                for drop in later:
                    yield _drop(demo, drop, begun)
                later = []
            if _is_over(demo, tasks):
                return
            histories.changed.wait(_SLOW_LOOK_SECONDS)
            _check_life(demo.workspace, monotonic() - begun)


def _is_over(demo: Demo, tasks: list[Task]) -> bool:
    return len(tasks) == len(demo.drops) and not any(task.state in ACTIVE for task in tasks)


def _check_life(workspace: Workspace, seconds: float) -> None:
    if not is_locked(workspace):
        raise AlluviumError(f"the daemon ended in the middle of the demo; see {workspace.log_file}")
    if seconds > _PATIENCE_SECONDS:
        raise AlluviumError(
            f"the demo is not over after {_PATIENCE_SECONDS:g} s; see {workspace.log_file}"
        )


def _moved(event: Row, name: str, seconds: float) -> Step:
    way = " → ".join(filter(None, (event["from_state"], event["to_state"])))
    return Step(seconds, name, way, event["reason"], State(event["to_state"]))


def _drop(demo: Demo, drop: Drop, begun: float) -> Step:
    submit_text(demo.workspace, drop.name, drop.content)
    return Step(monotonic() - begun, drop.name, "dropped", drop.purpose)


class _Histories(FileSystemEventHandler):
    """Sets `changed` whenever a transition was written to the folder of a task.

    One watch a folder: a recursive one warns on stderr about folders that appear in new folders.
    """

    def __init__(self, tasks: Path) -> None:
        self.changed = threading.Event()
        self._tasks = tasks
        self._observer = Observer()
        self._watched: set[Path] = set()

    def __enter__(self) -> Self:
        self._observer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake whoever waits."""
        self.changed.set()

    def watch_new(self) -> None:
        """Watch the folders that have appeared; in these there may be more, so look again."""
        tasks = self._tasks
        folders = {tasks, *tasks.iterdir(), *tasks.glob("*/.system")}
        for folder in folders - self._watched:
            self._observer.schedule(self, str(folder))
            self._watched.add(folder)
            self.changed.set()


# -- the repository and the patches to it ------------------------------------------------------


async def _fill_repository(repo: Path) -> tuple[Drop, ...]:
    git = Git("demo")

    async def run(*args: str) -> bytes:
        done = await git.run(
            *args, git_dir=repo / ".git", work_tree=repo, author=_AUTHOR, committer=_AUTHOR
        )
        return done.stdout

    _write(repo, _PROJECT)
    await run("add", "--", *_PROJECT)
    await run("commit", "--quiet", "--message=Add small statistics")

    async def patch(subject: str, change: Callable[[str], str], tests: str) -> bytes:
        _write(repo, {"stats.py": change(_STATS), "test_stats.py": _TESTS + tests})
        difference = await run("diff", "--full-index")
        _write(repo, _PROJECT)
        who = f"{_AUTHOR.name} <{_AUTHOR.email}>"
        return f"From: {who}\nSubject: [PATCH] {subject}\n\n---\n".encode() + difference

    return (
        Drop(
            "mean-error.patch",
            await patch("Refuse the mean of nothing", _refuse_nothing, _TEST_OF_REFUSAL),
            "a patch whose tests pass",
        ),
        Drop(
            "mean-zero.patch",
            await patch("Let the mean of nothing be zero", _zero_for_nothing, _TEST_OF_ZERO),
            "contradicts the first",
        ),
        Drop(
            "whole-total.patch",
            await patch("Return totals as whole numbers", _truncate, ""),
            "breaks a test",
        ),
        Drop("ideas.md", _IDEAS, "a plain document"),
    )


def _write(repo: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (repo / name).write_text(text, encoding="utf-8")


def _refuse_nothing(stats: str) -> str:
    guard = '    if not numbers:\n        raise ValueError("the mean of nothing")\n'
    return stats.replace(_MEAN_DOC, _MEAN_DOC + guard)


def _zero_for_nothing(stats: str) -> str:
    return stats.replace(_MEAN_DOC, _MEAN_DOC + "    if not numbers:\n        return 0.0\n")


def _truncate(stats: str) -> str:
    return stats.replace("return sum(numbers)", "return int(sum(numbers))")


_TEST_OF_REFUSAL: Final = """
    def test_of_nothing(self):
        with self.assertRaises(ValueError):
            stats.mean([])
"""
_TEST_OF_ZERO: Final = """
    def test_of_nothing(self):
        self.assertEqual(stats.mean([]), 0.0)
"""
