"""What is seen of a workspace at rest, and the daemon's own start on it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from recovery_bench import git, opened
from recovery_rows import TASK

from alluvium_like.stages.intake import Intake
from alluvium_like.stages.integrate.base import Base
from alluvium_like.stages.integrate.lane import Lane
from alluvium_like.stages.notify import Notify
from alluvium_like.stages.recover import recover
from alluvium_like.surface.verify import verify
from alluvium_like.workspace import Workspace

_NOT_COMPARED = {".git", ".system", ".agent"}  # refs are seen otherwise; the others are projections


@dataclass(frozen=True)
class Seen:
    """A workspace as it is at rest: rows without times, files, refs."""

    tables: dict[str, list[dict[str, Any]]]
    files: dict[str, str]
    refs: tuple[str, str]

    @property
    def task(self) -> dict[str, Any]:
        """The row of the task, empty where there is none."""
        return next((row for row in self.tables["tasks"] if row["id"] == TASK), {})

    @property
    def stands(self) -> str:
        return str(self.task.get("outcome") or self.task.get("state") or "")

    @property
    def landings(self) -> list[str]:
        return [row["state"] for row in self.tables["landings"]]

    @property
    def open_attempts(self) -> int:
        return sum(row["ended"] is False for row in self.tables["attempts"])

    @property
    def items(self) -> dict[str, str]:
        """The contents of what was dropped, by where it lies."""
        texts = ("dropped\n", "took its place\n")
        return {name: text for name, text in self.files.items() if text in texts}

    def ref(self, name: str) -> str:
        """Return what a ref of the daemon's repository names, empty where it is not there."""
        lines = (line.split() for line in self.refs[0].splitlines())
        return next((commit for commit, found in lines if found == f"refs/{name}"), "")

    @property
    def base(self) -> str:
        lines = (line.split() for line in self.refs[1].splitlines())
        return next(commit for commit, name in lines if name == "refs/heads/main")


def look(workspace: Workspace) -> Seen:
    return Seen(
        _rows(workspace.database),
        dict(_files(workspace)),
        (_refs(workspace.integration), _refs(workspace.repo)),
    )


def _refs(place: Path) -> str:
    return git(place, "for-each-ref", "--format=%(objectname) %(refname)")


def _rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (name,) in names:
            if name not in ("sqlite_sequence", "schema_migrations", "repositories"):
                found[name] = [_without_times(row) for row in db.execute(f"SELECT * FROM {name}")]
    found["meta"] = [row for row in found["meta"] if row["key"] != "projected_event"]
    return found


def _without_times(row: sqlite3.Row) -> dict[str, Any]:
    found = dict(row)
    of_times = ("at", "input_seal")  # a seal tells of times too
    values = {key: found[key] for key in found if key not in of_times and key[-3:] != "_at"}
    return {**values, "ended": bool(found["ended_at"])} if "ended_at" in found else values


def _files(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yield what lies in the folders that people see, and in those of workshops."""
    for top in (workspace.inbox, workspace.tasks, workspace.quarantine, workspace.repo):
        for folder, _, names in os.walk(top):
            if _NOT_COMPARED & set(Path(folder).parts):
                continue
            yield str(Path(folder).relative_to(workspace.root)), ""
            for name in names:
                path = Path(folder, name)
                yield str(path.relative_to(workspace.root)), path.read_text()
    for top in (workspace.worktrees, workspace.workshops, workspace.slots):
        for path in top.iterdir():
            yield str(path.relative_to(workspace.root)), ""


async def start(workspace: Workspace) -> None:
    """Do what the daemon does at its start, and the lane at its first look."""
    async with opened(workspace) as parts:
        await recover(parts)
        await Intake(parts).finish_half_claims()
        await Notify(parts).catch_up()
        base = Base(parts)
        await base.take_up()
        await base.follow()
        await base.try_pending()


async def integrate(workspace: Workspace) -> None:
    async with opened(workspace) as parts:
        await Lane(parts).drain()


async def told(workspace: Workspace) -> list[str]:
    findings = await anyio.to_thread.run_sync(lambda: verify(workspace, running=False))
    return [finding.line for finding in findings]


def lost(before: Seen, after: Seen) -> bool:
    """Tell whether something that was dropped is not whole in exactly one place."""
    return sorted(before.items.values()) != sorted(after.items.values())
