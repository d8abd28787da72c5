"""What a person may do to a task: the same transition with the daemon up or down.

With the daemon up it is called through its socket; else the command line holds the lock, opens the
store and calls the same function. Nothing is acknowledged before its row is committed.
"""

from dataclasses import dataclass

from alluvium_like.errors import AlluviumError, StaleTransition
from alluvium_like.lifecycle import Condition, Ending, State
from alluvium_like.stages.parts import Runs, Wakes
from alluvium_like.store.writer import Store
from alluvium_like.task import Task

_RETRYABLE = (State.FAILED, State.CANCELLED, State.NEEDS_HUMAN)


@dataclass(frozen=True, slots=True)
class Actions:
    """Bound to a store, and to the live runs where there is a daemon."""

    store: Store
    wakes: Wakes
    runs: Runs

    async def answer(self, task_id: str, text: str) -> Task:
        """Queue a task again with a person's answer; its branch goes on with the new base."""
        if not text.strip():
            raise AlluviumError("the answer is empty; say what the agent should do")
        task = await self._in_state(task_id, "answered", State.NEEDS_HUMAN)
        async with self.store.transaction() as tx:
            await tx.run("answer_checkpoints", task_id=task.id, answer=text)
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
        """Queue a task again from where its last attempt started."""
        task = await self._in_state(task_id, "retried", *_RETRYABLE)
        if self.runs.is_live(task.id):
            raise AlluviumError(f"{task.id} is still being ended; try again in a moment")
        async with self.store.transaction() as tx:
            await tx.run("answer_checkpoints", task_id=task.id, answer="(retried)")
            task = await tx.transition(
                task.id,
                expect=task.state,
                to=State.QUEUED,
                reason="retried by a person",
                failures=0,
                revision_round=0,
                not_before="",
            )
        self.wakes.dispatch.set()
        return task

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task and end all its processes; its branch is kept.

        Raises AlluviumError when it is over already, or its landing is under way.
        """
        task = await self.store.get(task_id)
        if task.state in (State.DONE, State.CANCELLED):
            raise AlluviumError(f"{task.id} is {task.state}; there is nothing to cancel")
        async with self.store.transaction() as tx:
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
        """Start attempts again, and let a lane that paused on a red base try again."""
        async with self.store.transaction() as tx:
            await tx.run("clear_conditions", first=Condition.PAUSED, second=Condition.BASE_RED)
        self.wakes.set_all()

    async def _in_state(self, task_id: str, done: str, *states: State) -> Task:
        task = await self.store.get(task_id)
        if task.state not in states:
            allowed = ", ".join(states)
            raise StaleTransition(
                f"{task.id} is {task.state}; only tasks in {allowed} can be {done}"
            )
        return task
