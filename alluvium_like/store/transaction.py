"""Writes that commit together; `transition()` is the only writer of a task's state.

Every write is compare-and-set: the law of the lifecycle and the fence of the attempt are kept here.
"""

import sqlite3

from alluvium_like.clock import utc_now
from alluvium_like.errors import StaleTransition
from alluvium_like.lifecycle import TRANSITIONS, CheckpointKind, Outcome, State
from alluvium_like.store.connection import Statements
from alluvium_like.store.rows import to_task
from alluvium_like.task import Task, TaskSettings

_SETTABLE = frozenset(
    {
        "outcome",
        "attempt",
        "failures",
        "revision_round",
        "not_before",
        "start_from",
        "start_commit",
        "start_merge",
        "base_commit",
        "head_commit",
        "summary",
        "merge_commit",
        "approved_commit",
    }
)
Value = str | int | float | None


class Transaction:
    """Writes that commit together."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    async def run(self, name: str, /, **params: Value | bytes) -> list[sqlite3.Row]:
        """Run one named writing query; `:now` is filled in."""
        return await self._sql.run(name, {"now": utc_now(), **params})

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
        """Move one task if it still is in `expect` (and in its attempt, where given).

        The event row is written by a trigger in the same transaction. Raises StaleTransition when
        somebody else was first, ValueError when the law of the lifecycle forbids the step.
        """
        if to not in TRANSITIONS[expect]:
            raise ValueError(f"no transition from {expect} to {to}")
        if not changes.keys() <= _SETTABLE:
            raise ValueError(f"not settable: {sorted(changes.keys() - _SETTABLE)}")
        columns = "".join(f", {name} = :{name}" for name in changes)
        fence = "" if in_attempt is None else " AND attempt = :expected_attempt"
        rows = await self._sql.run_text(
            f"UPDATE tasks SET state = :to, reason = :reason, updated_at = :now{columns} "  # noqa: S608
            f"WHERE id = :id AND state = :expect{fence} RETURNING *",
            {
                **changes,
                "id": task_id,
                "to": to,
                "expect": expect,
                "reason": reason,
                "now": utc_now(),
                "expected_attempt": in_attempt,
            },
        )
        if not rows:
            raise StaleTransition(f"task {task_id} is no longer {expect}")
        return to_task(rows[0])

    async def get(self, task_id: str) -> Task:
        """Return one task as this transaction sees it. Raises StaleTransition when it is gone."""
        rows = await self.run("get_task", id=task_id)
        if not rows:
            raise StaleTransition(f"there is no task {task_id}")
        return to_task(rows[0])

    async def finish(
        self, task_id: str, outcome: Outcome, *, expect: State, reason: str = "", commit: str = ""
    ) -> Task:
        """Move one task to done with its outcome."""
        return await self.transition(
            task_id,
            expect=expect,
            to=State.DONE,
            reason=reason,
            outcome=outcome,
            merge_commit=commit,
        )

    async def ask_human(
        self,
        task: Task,
        question: str,
        *,
        reason: str,
        kind: CheckpointKind = CheckpointKind.QUESTION,
        **changes: Value,
    ) -> Task:
        """Hold one task for a person, with the question that it waits for."""
        moved = await self.transition(
            task.id,
            expect=task.state,
            to=State.NEEDS_HUMAN,
            reason=reason,
            in_attempt=task.attempt,
            **changes,
        )
        await self.run(
            "open_checkpoint",
            task_id=task.id,
            attempt=task.attempt,
            kind=kind,
            question=question,
        )
        return moved

    async def change_settings(
        self, task: Task, agent: str, priority: int, settings: TaskSettings
    ) -> Task:
        """Change what a task says of itself, if it is where it was. Raises StaleTransition."""
        rows = await self.run(
            "change_settings",
            id=task.id,
            state=task.state,
            attempt=task.attempt,
            agent=agent,
            priority=priority,
            settings=settings.to_json(),
        )
        if not rows:
            raise StaleTransition(f"task {task.id} is no longer {task.state}")
        return await self.get(task.id)

    async def start_attempt(self, task: Task, agent: str) -> Task:
        """Move one task to running, as its next attempt, which is fenced by its number."""
        number = task.attempt + 1
        moved = await self.transition(
            task.id, expect=task.state, to=State.RUNNING, in_attempt=task.attempt, attempt=number
        )
        await self.run("begin_attempt", task_id=task.id, number=number, agent=agent)
        return moved
