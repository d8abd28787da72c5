"""The command line's door: synchronous and read-only, whether or not a daemon runs."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from alluvium_like.errors import AlluviumError, StoreError
from alluvium_like.lifecycle import ENDED, State
from alluvium_like.store.rows import Row, to_attempt, to_task
from alluvium_like.store.sql import query
from alluvium_like.store.version import require_version
from alluvium_like.task import REPOSITORY, Attempt, Parked, Task


class StoreReader:
    """A read-only view; a store that is not made yet, or is being made, reads as empty.

    One that an older version made is refused, for it lacks what the records hold. `older` opens it
    all the same: to find ids, count, and read conditions and meta, which every version has.
    """

    def __init__(self, path: Path, *, older: bool = False) -> None:
        self._db: sqlite3.Connection | None = None
        if not (path.exists() and path.stat().st_size):
            return
        try:
            self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            version = _version(self._db)
            if not version:
                self.close()
                self._db = None
                return
            require_version(path, version, older=older)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{path}: cannot be read: {error}") from error
        except StoreError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            self._db.close()

    def find(self, part: str) -> Task:
        """Return the task that `find_id` finds. Raises AlluviumError."""
        return to_task(self._fetch("get_task", id=self.find_id(part))[0])

    def find_id(self, part: str) -> str:
        """Return the id that is `part`, alone contains it, or alone is of the task so named.

        Raises AlluviumError.
        """
        if self._fetch("get_task", id=part):
            return part
        rows = self._fetch("find_tasks", part=part)
        if not rows:
            raise AlluviumError(f"no task matches '{part}'; 'alluvium-like list' shows them")
        if len(rows) > 1:
            named = self._fetch("find_named", name=part)
            if len(named) == 1:
                return str(named[0]["id"])
            some = ", ".join(row["id"] for row in rows[:5])
            raise AlluviumError(f"'{part}' matches several tasks: {some}; give more of the id")
        found: str = rows[0]["id"]
        return found

    def tasks(self, state: State | None = None, *, newest: int = 0) -> list[Task]:
        """Return all tasks or those in one state, oldest first.

        Of those that have ended only the `newest` are returned; 0 stands for all of them.
        """
        if state is not None and (not newest or state not in ENDED):
            rows = self._fetch("list_tasks_in_state", state=state)
        elif state is not None:
            rows = self._fetch("list_newest_in_state", state=state, newest=newest)
        elif newest:
            rows = self._fetch("list_newest", newest=newest)
        else:
            rows = self._fetch("list_tasks")
        return [to_task(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return how many tasks are in each state, zeros included."""
        found = {row["state"]: row["n"] for row in self._fetch("count_states")}
        return {state.value: found.get(state.value, 0) for state in State}

    def outcomes(self) -> dict[str, int]:
        """Return how many done tasks had each outcome, zeros included."""
        found = {row["outcome"]: row["n"] for row in self._fetch("count_outcomes")}
        return {"merged": found.get("merged", 0), "noop": found.get("noop", 0)}

    def events(self, task_id: str) -> list[Row]:
        """Return the history of one task."""
        return self._fetch("events_of_task", task_id=task_id)

    def checkpoints(self, task_id: str) -> list[Row]:
        """Return what people were asked about one task, and what they answered."""
        return self._fetch("checkpoints_of_task", task_id=task_id)

    def attempts(self, task_id: str) -> list[Attempt]:
        """Return the attempts of one task, oldest first."""
        return [to_attempt(row) for row in self._fetch("attempts_of_task", task_id=task_id)]

    def parked(self) -> list[Parked]:
        """Return the agents that cannot work, and those of whom it is not known that they can."""
        if not self._fetch("has_table", name="parked"):  # of an older version
            return []
        return [Parked(**dict(row)) for row in self._fetch("parked")]

    def usage(self, since: str) -> list[Row]:
        """Return the attempts that were begun since a moment, with the names of their tasks."""
        return self._fetch("usage", since=since)

    def trials(self, task_id: str) -> list[Row]:
        """Return the runs of the tests that were about one task, oldest first."""
        return self._fetch("trials_of_task", task_id=task_id)

    def queue(self, repository: str) -> Row | None:
        """Return the figures of one repository's lane, None before its first look."""
        rows = self._fetch("queue", repository=repository)
        return rows[0] if rows else None

    def cars(self, repository: str) -> list[Row]:
        """Return the train of one repository, the car that lands first at its head."""
        return self._fetch("cars", repository=repository)

    def open_trials(self, repository: str) -> list[Row]:
        """Return the runs of the tests that are under way."""
        return self._fetch("open_trials", repository=repository)

    def tasks_of_trial(self, trial_id: int) -> list[str]:
        """Return the tasks that one run of the tests is about, in their order."""
        return [row["task_id"] for row in self._fetch("tasks_of_trial", trial_id=trial_id)]

    def to_couple(self, repository: str, most: int) -> list[Task]:
        """Return what is to join the train, in its order."""
        return [to_task(r) for r in self._fetch("to_couple", repository=repository, most=most)]

    def waiting_to_land(self, repository: str) -> list[Row]:
        """Return what is proven and cannot land yet."""
        return self._fetch("waiting_to_land", repository=repository)

    def last_flakes(self, repository: str, most: int) -> list[Row]:
        """Return the newest red runs of commits that passed when they were run again."""
        return self._fetch("last_flakes", repository=repository, most=most)

    def conditions(self) -> list[Row]:
        """Return what holds for the daemon as a whole."""
        return self._fetch("conditions")

    def meta(self, key: str) -> str:
        """Return one stored fact about the workspace, empty when there is none."""
        rows = self._fetch("get_meta", key=key)
        return rows[0]["value"] if rows else ""

    def base_branch(self) -> str:
        """Return the base branch of the default repository, empty before the first start."""
        rows = self._fetch("get_repository", name=REPOSITORY)
        return rows[0]["base_branch"] if rows else ""

    def _fetch(self, name: str, /, **params: str | int) -> list[Row]:
        if self._db is None:
            return []
        try:
            return self._db.execute(query(name), params).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error


def _version(db: sqlite3.Connection) -> int:
    """Return the schema's version, 0 while the first daemon has not got so far."""
    if not db.execute(query("has_tables")).fetchone():
        return 0
    (version,) = db.execute(query("schema_version")).fetchone()
    return int(version)
