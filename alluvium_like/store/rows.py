"""From rows to records; shared by the writer and the reader."""

import sqlite3
from dataclasses import fields

from alluvium_like.lifecycle import LandingState, Outcome, State, TaskKind
from alluvium_like.task import Attempt, Landing, Task, TaskSettings

_TASK_FIELDS = [f.name for f in fields(Task)]
_ATTEMPT_FIELDS = [f.name for f in fields(Attempt)]
_LANDING_FIELDS = [f.name for f in fields(Landing)]

Row = sqlite3.Row


def to_task(row: Row) -> Task:
    """Make the record of one task."""
    values = {name: row[name] for name in _TASK_FIELDS}
    values["state"] = State(values["state"])
    values["kind"] = TaskKind(values["kind"])
    values["settings"] = TaskSettings.from_json(values["settings"])
    values["outcome"] = Outcome(values["outcome"]) if values["outcome"] else None
    return Task(**values)


def to_attempt(row: Row) -> Attempt:
    """Make the record of one attempt."""
    return Attempt(**{name: row[name] for name in _ATTEMPT_FIELDS})


def to_landing(row: Row) -> Landing:
    """Make the record of one landing."""
    values = {name: row[name] for name in _LANDING_FIELDS}
    values["state"] = LandingState(values["state"])
    return Landing(**values)
