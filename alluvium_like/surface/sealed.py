"""The check of `verify` that what was dropped is as it was when it was claimed.

Not of ended tasks, whose folders are people's; nor of running ones, whose agent may be at it: those
are looked at when it has ended.
"""

from collections.abc import Iterable, Iterator

from alluvium_like.inbox.seal import find_change, is_sealed
from alluvium_like.lifecycle import ENDED, State
from alluvium_like.surface.checks import Finding, Kind
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

_UNSEEN = ENDED | {State.RUNNING}


def check_inputs(workspace: Workspace, tasks: Iterable[Task]) -> Iterator[Finding]:
    """Compare each input/ with its seal; one that is gone is found by its folder."""
    for task in tasks:
        folder = workspace.task(task.id).input
        if task.state in _UNSEEN or not folder.is_dir() or not is_sealed(folder, task.input_seal):
            continue
        change = find_change(folder, task.input_seal)
        if change:
            problem = f"{change.what} was changed between {change.first} and {change.last}"
            advice = "look at it; its next attempt asks a person, and 'retry' takes it as it is"
            yield Finding(Kind.INPUT, task.id, problem, advice)
