"""The daemon's door to the store: `transition()` is the only writer of a task's state.

Every write is compare-and-set and commits before the caller goes on. After each commit
`committed` is called, so that projections and followers can catch up from the event rows.
"""

import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from alluvium_like.errors import AlluviumError
from alluvium_like.lifecycle import CheckpointKind, State
from alluvium_like.store.connection import Connection
from alluvium_like.store.rows import to_attempt, to_landing, to_task
from alluvium_like.store.transaction import Transaction, Value
from alluvium_like.task import Attempt, Landing, Parked, Repository, Spent, Task


class Store:
    """The store as the stages use it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.committed: Callable[[], None] = lambda: None

    @classmethod
    async def open(cls, path: Path) -> "Store":
        """Open, check and migrate. Raises StoreError."""
        store = cls(await Connection.open(path))
        if not await store.get_meta("workspace_id"):
            await store.set_meta("workspace_id", uuid.uuid4().hex)
        return store

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    @asynccontextmanager
    async def transaction(self, name: str) -> AsyncIterator[Transaction]:
        """Commit several writes together; the body must be short, it holds the write lock.

        `name` tells in the past tense what is true afterwards; see `Connection.transaction`.
        """
        async with self._connection.transaction(name) as statements:
            yield Transaction(statements)
        self.committed()

    async def write(self, name: str, /, **params: Value | bytes) -> None:
        """Run one named writing query in a transaction of its own."""
        async with self.transaction(name) as tx:
            await tx.run(name, **params)

    async def transition(
        self,
        task_id: str,
        *,
        expect: State,
        to: State,
        reason: str = "",
        in_attempt: int | None = None,
        **changes: Value,
    ) -> Task:
        """Move one task in a transaction of its own; see `Transaction.transition`."""
        async with self.transaction(f"to_{to}") as tx:
            return await tx.transition(
                task_id, expect=expect, to=to, reason=reason, in_attempt=in_attempt, **changes
            )

    async def get(self, task_id: str) -> Task:
        """Return one task. Raises AlluviumError when there is none."""
        rows = await self.rows("get_task", id=task_id)
        if not rows:
            raise AlluviumError(f"there is no task {task_id}")
        return to_task(rows[0])

    async def in_state(self, state: State) -> list[Task]:
        """Return the tasks in one state, oldest first."""
        return [to_task(row) for row in await self.rows("list_tasks_in_state", state=state)]

    async def next_runnable(self, now: str, too_far: str, held: Sequence[str]) -> Task | None:
        """Return the task that is to start next; a back-off beyond `too_far` is a clock's jump.

        Tasks whose agent is one of `held` wait.
        """
        rows = await self.rows("next_runnable", now=now, too_far=too_far, held=json.dumps(held))
        return to_task(rows[0]) if rows else None

    async def next_due(self, now: str) -> str | None:
        """Return the time at which the first backing-off task is due."""
        at: str | None = (await self.rows("next_due", now=now))[0]["at"]
        return at

    async def to_couple(self, repository: str, most: int) -> list[Task]:
        """Return what the integrator may put on its train, in the order of the queue."""
        return [to_task(r) for r in await self.rows("to_couple", repository=repository, most=most)]

    async def integrating(self, repository: str) -> list[Task]:
        """Return what the integrator holds, in its order."""
        return [to_task(r) for r in await self.rows("integrating", repository=repository)]

    async def counts(self) -> Mapping[State, int]:
        """Return how many tasks are in each state that has any."""
        return {State(row["state"]): row["n"] for row in await self.rows("count_states")}

    async def open_attempts(self) -> list[Attempt]:
        """Return the attempts that no end was stored for."""
        return [to_attempt(row) for row in await self.rows("open_attempts")]

    async def parked(self) -> list[Parked]:
        """Return the agents that cannot work, and those of whom it is not known that they can."""
        return [Parked(**dict(row)) for row in await self.rows("parked")]

    async def worked_since(self, agent: str, since: str) -> bool:
        """Tell whether an attempt of an agent that began after `since` went well."""
        return bool(await self.rows("worked_since", agent=agent, since=since))

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Return the attempts of one task, oldest first."""
        return [to_attempt(row) for row in await self.rows("attempts_of_task", task_id=task_id)]

    async def spent_by_task(self, task_id: str, attempt: int) -> dict[str, Spent]:
        """Return what each agent used in the other attempts since a person last had a word."""
        return _by_agent(await self.rows("spent_by_task", task_id=task_id, attempt=attempt))

    async def spent_since(self, moment: str) -> dict[str, Spent]:
        """Return what each agent used in the attempts that were begun since a moment."""
        return _by_agent(await self.rows("spent_since", since=moment))

    async def answers(self, task_id: str) -> list[tuple[str, str]]:
        """Return the questions that a person has answered, oldest first."""
        rows = await self.rows("checkpoints_of_task", task_id=task_id)
        return [(row["question"], row["answer"]) for row in rows if row["answer"] is not None]

    async def open_checkpoints(self, task_id: str) -> list[CheckpointKind]:
        """Return what a person is asked about a task now."""
        rows = await self.rows("checkpoints_of_task", task_id=task_id)
        return [CheckpointKind(row["kind"]) for row in rows if row["answer"] is None]

    async def claims(self) -> list[sqlite3.Row]:
        """Return the claims of items that are in progress."""
        return await self.rows("claims_of_items")

    async def events_after(self, seq: int) -> list[sqlite3.Row]:
        """Return the next events, at most a thousand."""
        return await self.rows("events_after", seq=seq)

    async def events_of(self, task_id: str) -> list[sqlite3.Row]:
        """Return the history of one task."""
        return await self.rows("events_of_task", task_id=task_id)

    async def tasks_with_events_after(self, seq: int) -> list[str]:
        """Return the ids of the tasks that have newer events."""
        return [row["task_id"] for row in await self.rows("tasks_with_events_after", seq=seq)]

    async def last_event(self) -> int:
        """Return the number of the newest event."""
        number: int = (await self.rows("last_event"))[0]["seq"]
        return number

    async def open_landing(self, repository: str) -> Landing | None:
        """Return the landing that was begun and is not over."""
        rows = await self.rows("open_landing", repository=repository)
        return to_landing(rows[0]) if rows else None

    async def tasks_of_landing(self, landing_id: int) -> list[tuple[str, str, State]]:
        """Return (task id, commit, state of the task now) of what a landing brings."""
        rows = await self.rows("tasks_of_landing", landing_id=landing_id)
        return [(row["task_id"], row["commit_id"], State(row["state"])) for row in rows]

    async def conditions(self, name: str) -> dict[str, str]:
        """Return the reasons of one condition by repository; empty when it does not hold."""
        rows = await self.rows("conditions")
        return {row["repository"]: row["reason"] for row in rows if row["name"] == name}

    async def set_condition(self, name: str, reason: str, repository: str = "") -> None:
        """Say that something holds for the daemon or for one repository."""
        await self.write("set_condition", name=name, repository=repository, reason=reason)

    async def clear_condition(self, name: str, repository: str = "") -> None:
        """Say that it no longer holds."""
        if repository in await self.conditions(name):
            await self.write("clear_condition", name=name, repository=repository)

    async def repository(self, name: str) -> Repository | None:
        """Return what is stored of one repository."""
        rows = await self.rows("get_repository", name=name)
        if not rows:
            return None
        return Repository(rows[0]["name"], rows[0]["path"], rows[0]["base_branch"])

    async def get_meta(self, key: str) -> str:
        """Return one fact about the workspace, empty when it is not stored."""
        rows = await self.rows("get_meta", key=key)
        value: str = rows[0]["value"] if rows else ""
        return value

    async def set_meta(self, key: str, value: str) -> None:
        """Store one fact about the workspace."""
        await self.write("set_meta", key=key, value=value)

    async def rows(self, name: str, /, **params: Value) -> list[sqlite3.Row]:
        """Return the rows of one named reading query."""
        return await self._connection.fetch(name, params)


def _by_agent(rows: Sequence[sqlite3.Row]) -> dict[str, Spent]:
    return {row["agent"]: Spent(row["tokens"] or 0, row["cost"] or 0.0) for row in rows}
