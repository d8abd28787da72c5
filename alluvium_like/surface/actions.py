"""What a person may do to a task: the same transition with the daemon up or down.

With the daemon up it is called through its socket; else the command line holds the lock, opens the
store and calls the same function. Nothing is acknowledged before its row is committed.
"""

import json
from dataclasses import dataclass

import anyio

from alluvium_like import messages
from alluvium_like.errors import AlluviumError, StaleTransition
from alluvium_like.lifecycle import CheckpointKind, Condition, Ending, State, TaskKind
from alluvium_like.stages.making import make_task_folder
from alluvium_like.stages.parts import Runs, Wakes
from alluvium_like.store.writer import Store
from alluvium_like.task import Task, new_task_id
from alluvium_like.workspace import Workspace

_RETRYABLE = (State.FAILED, State.CANCELLED, State.NEEDS_HUMAN)
_CHANGEABLE = (State.WAITING, State.QUEUED, State.NEEDS_REVISION, *_RETRYABLE)


@dataclass(frozen=True, slots=True)
class Actions:
    """Bound to a store, and to the live runs where there is a daemon."""

    workspace: Workspace
    store: Store
    wakes: Wakes
    runs: Runs

    async def answer(self, task_id: str, text: str) -> Task:
        """Queue a task again with a person's answer; its branch goes on with the new base."""
        if not text.strip():
            raise AlluviumError("the answer is empty; say what the agent should do")
        task = await self._in_state(task_id, "answered", State.NEEDS_HUMAN)
        async with self.store.transaction("answered") as tx:
            await tx.run("answer_checkpoints", task_id=task.id, answer=text)
            await tx.run("doubt_red_trials")
            task = await tx.transition(
                task.id,
                expect=task.state,
                to=State.QUEUED,
                reason="answered by a person",
                start_from="branch",
                failures=0,
                revision_round=0,
                not_before="",
            )
        self.wakes.dispatch.set()
        return task

    async def retry(self, task_id: str) -> Task:
        """Queue a task again from where its last attempt started.

        Work that the daemon itself makes, and no agent had yet, goes to the integrator again.
        """
        task = await self._in_state(task_id, "retried", *_RETRYABLE)
        if self.runs.is_live(task.id):
            raise AlluviumError(f"{task.id} is still being ended; try again in a moment")
        ours = task.kind is not TaskKind.ITEM and task.attempt == 0
        async with self.store.transaction("retried") as tx:
            if not await anyio.Path(self.workspace.task(task.id).input).is_dir():
                raise AlluviumError(
                    f"{task.id} cannot be run again: its folder was removed, and what was dropped "
                    "with it; drop it again"
                )
            await tx.run("answer_checkpoints", task_id=task.id, answer="(retried)")
            await tx.run("doubt_red_trials")
            task = await tx.transition(
                task.id,
                expect=task.state,
                to=State.WORKER_DONE if ours else State.QUEUED,
                reason="retried by a person",
                failures=0,
                revision_round=0,
                not_before="",
            )
        (self.wakes.integrate if ours else self.wakes.dispatch).set()
        return task

    async def set(self, task_id: str, changes: str) -> Task:
        """Change the settings of a task that has not started its next attempt.

        `changes`: JSON, as `surface/change.py` has checked it; what is not named stays.
        """
        told = json.loads(changes)
        async with self.store.transaction("settings_changed") as tx:
            task = _require_state(await tx.get(task_id), "changed", *_CHANGEABLE)
            agent, priority = told.pop("agent", task.agent), told.pop("priority", task.priority)
            task = await tx.change_settings(task, agent, priority, task.settings.changed(told))
        self.wakes.dispatch.set()
        return task

    async def approve(self, task_id: str) -> Task:
        """Let the work of a task land although it touches protected paths; exactly this work."""
        task = await self._waiting_for_leave(task_id)
        async with self.store.transaction("approved") as tx:
            await tx.run("answer_checkpoints", task_id=task.id, answer="approved")
            task = await tx.transition(
                task.id,
                expect=task.state,
                to=State.WORKER_DONE,
                reason="approved by a person",
                in_attempt=task.attempt,
                approved_commit=task.head_commit,
            )
        self.wakes.integrate.set()
        return task

    async def reject(self, task_id: str, text: str) -> Task:
        """Send work that touches protected paths back to its agent, with the reason."""
        await self._waiting_for_leave(task_id)
        return await self.answer(task_id, f"Rejected, because: {text}")

    async def revert(self, task_id: str) -> Task:
        """Queue a new task that takes a landed one back; the integrator makes its commit."""
        landed = await self._in_state(task_id, "reverted", State.DONE)
        if not landed.merge_commit:
            raise AlluviumError(f"{landed.id} changed nothing; there is nothing to take back")
        name = f"revert-{landed.name}"
        new_id = new_task_id(name)
        text = messages.revert_input(landed)
        seal = await make_task_folder(self.workspace, self.store, new_id, "revert.md", text)
        async with self.store.transaction("reverted") as tx:
            await tx.run("create_revert", id=new_id, name=name, reverts=landed.id, input_seal=seal)
            await tx.run("end_claim", task_id=new_id)
            made = await tx.get(new_id)
        self.wakes.integrate.set()
        return made

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task and end all its processes; its branch is kept.

        Raises AlluviumError when it is over already, or its landing is under way.
        """
        task = await self.store.get(task_id)
        if task.state in (State.DONE, State.CANCELLED):
            raise AlluviumError(f"{task.id} is {task.state}; there is nothing to cancel")
        async with self.store.transaction("cancelled") as tx:
            if await tx.run("being_landed", task_id=task.id):
                raise AlluviumError(f"{task.id} is landing at this moment; see 'status'")
            task = await tx.transition(
                task.id, expect=task.state, to=State.CANCELLED, reason="cancelled by a person"
            )
        await self.runs.stop(task.id, Ending.CANCELLED)
        self.wakes.set_all()
        return task

    async def pause(self) -> None:
        """Start no more attempts until `resume`."""
        await self.store.set_condition(
            Condition.PAUSED, "paused by a person: no attempt is started"
        )
        self.wakes.dispatch.set()

    async def resume(self) -> None:
        """Start attempts again, and let a lane that is held up and parked agents try again.

        What an escape has changed is taken as it is now.
        """
        held_up = {"second": Condition.BASE_RED, "third": Condition.ESCAPE}
        async with self.store.transaction("resumed") as tx:
            await tx.run("clear_conditions", first=Condition.PAUSED, **held_up)
            await tx.run("doubt_red_trials")
            await tx.run("unpark_all")
        self.wakes.set_all()

    async def _waiting_for_leave(self, task_id: str) -> Task:
        task = await self._in_state(task_id, "approved or rejected", State.NEEDS_HUMAN)
        asked = await self.store.open_checkpoints(task.id)
        if CheckpointKind.APPROVAL not in asked:
            raise AlluviumError(f"{task.id} asks a question; use 'answer', 'retry' or 'cancel'")
        return task

    async def _in_state(self, task_id: str, done: str, *states: State) -> Task:
        return _require_state(await self.store.get(task_id), done, *states)


def _require_state(task: Task, done: str, *states: State) -> Task:
    if task.state not in states:
        allowed = ", ".join(states)
        raise StaleTransition(f"{task.id} is {task.state}; only tasks in {allowed} can be {done}")
    return task
