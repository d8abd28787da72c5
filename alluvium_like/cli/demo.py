"""The demo on the terminal: what happens as it happens, then what became of it and what is next."""

import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from alluvium_like.cli.plain import printable
from alluvium_like.lifecycle import State
from alluvium_like.store.reader import StoreReader
from alluvium_like.surface.demo_project import Demo, Step, make_demo, play
from alluvium_like.surface.launch import start_in_background, stop_daemon
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

_STYLES: Final = {State.DONE: "green", State.NEEDS_HUMAN: "yellow", State.FAILED: "red"}


def run_demo(path: Path | None) -> None:
    """Play the demo in a new workspace; its daemon is stopped however that ends.

    Raises AlluviumError, and KeyboardInterrupt on Ctrl-C.
    """
    demo = make_demo(path)
    space = demo.workspace
    _say(f"workspace  {space.root}")
    try:
        with _interrupt_afterwards():
            pid = start_in_background(space)
        _say(f"daemon     started (pid {pid})\n")
        for step in play(demo):
            _tell_step(demo, step)
        _tell_results(demo)
    finally:
        _say(f"\ndaemon     {stop_daemon(space, force=False, timeout_seconds=None)}")
    _tell_what_next(space)


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    """Let a Ctrl-C wait: a daemon that is only half started could not be stopped."""
    asked: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _tell_step(demo: Demo, step: Step) -> None:
    text = f"{step.seconds:6.2f} s  {_column(demo, step.name)}  {step.text}"
    if step.reason:
        text += f": {step.reason}"
    _say(text, _STYLES.get(step.state, "") if step.state else "bold")


def _tell_results(demo: Demo) -> None:
    _say("\nWhat became of them:\n", "bold")
    with StoreReader(demo.workspace.database) as store:
        for task in store.tasks():
            _say(f"  {_column(demo, task.name)}  {_outcome(task)}", _STYLES.get(task.state, ""))
            for event in store.events(task.id):
                if event["to_state"] == State.NEEDS_REVISION:
                    _say(f"  {_column(demo, '')}  was sent back: {event['reason']}")
            for checkpoint in store.checkpoints(task.id):
                _say(f"  {_column(demo, '')}  asks: {_first_line(checkpoint['question'])}")


def _outcome(task: Task) -> str:
    state = f"{task.state}/{task.outcome}" if task.outcome else task.state
    commit = f"commit {task.merge_commit[:10]}" if task.merge_commit else ""
    return ", ".join(filter(None, (state, commit, task.reason)))


def _tell_what_next(space: Workspace) -> None:
    alluvium = f"{_program()} -C {shlex.quote(str(space.root))}"
    _say("\nWhere to look:\n", "bold")
    _say(f"  {alluvium} show mean-zero      its history and its question")
    _say(f"  {alluvium} log whole-total     what its agent and its tests put out")
    _say(f"  git -C {shlex.quote(str(space.repo))} log --stat     what landed")
    _say("\nHow to go on:\n", "bold")
    _say(f"  {alluvium} start")
    _say(f"  {alluvium} answer mean-zero TEXT     its agent tries again")
    _say(f"  {alluvium} status")
    _say(f"  {alluvium} stop")


def _program() -> str:
    """Return how this program is called here; in a fresh environment it is not on PATH yet."""
    called = Path(sys.argv[0])
    if called.name != "alluvium-like" or shutil.which(called.name):
        return "alluvium-like"
    return shlex.quote(str(called))


def _column(demo: Demo, name: str) -> str:
    return name.ljust(max(len(drop.name) for drop in demo.drops))


def _first_line(question: str) -> str:
    return question.strip().partition("\n")[0].lstrip("# ")


def _say(text: str, style: str = "") -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.print(printable(text), style=style)
