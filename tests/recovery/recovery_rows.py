"""The rows of a task in any state of RECOVERY.md, written by the store's own writer."""

from dataclasses import dataclass
from pathlib import Path

from recovery_table import WORDS, State

from alluvium_like.lifecycle import AttemptVerdict, Ending, Outcome
from alluvium_like.lifecycle import State as Stands
from alluvium_like.store.transaction import Transaction
from alluvium_like.store.writer import Store
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

EARLIER = "20260101T000000Z-earlier-000001"
TASK = "20260101T000001Z-item-000002"
NAME = "item"


@dataclass(frozen=True)
class Template:
    """A workspace with one landed task, and beside it what states are put together from.

    `work` and `later` are commits of the task's, `candidate` is what would land.
    """

    root: Path
    landed: str
    work: str
    later: str
    candidate: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root / "ws")

    def owner(self, base: str) -> Path:
        """Return the owner's repository with its base at one value of that fact."""
        return self.root / "repos" / base


@dataclass
class Rows:
    """Leads a task by legal transitions to where the state has it."""

    store: Store
    template: Template
    state: State
    inode: int
    as_folder: bool

    async def write(self) -> None:
        value = self.state["store"]
        async with self.store.transaction("test") as tx:
            if value == "claiming":
                await tx.run(
                    "begin_claim",
                    task_id=TASK,
                    source=NAME.encode(),
                    device=0,
                    inode=self.inode,
                    is_dir=self.as_folder,
                )
            elif value == "making":
                await tx.run("begin_making", task_id=TASK)
            elif value != "none":
                await self._lead(tx, value)

    @property
    def _is_ours(self) -> bool:
        return self.state["folder"] == "ours"

    @property
    def _has_work(self) -> bool:
        value, refs = self.state["store"], self.state["integration.git"]
        if self._is_ours and value in ("worker_done", "needs_revision"):
            return refs in ("work", "held")
        needed = {"worker_done", "needs_revision", "merged", *WORDS["on the lane"]}
        return value in needed or refs in ("work", "held")

    async def _lead(self, tx: Transaction, value: str) -> None:
        if self._is_ours:
            await tx.run("create_revert", id=TASK, name=NAME, reverts=EARLIER, input_seal="")
            if self._has_work:
                await self._set_work(tx)
        else:
            await tx.run("create_task", id=TASK, name=NAME, priority=0, input_seal="")
            if self._has_work:
                await self._attempt(tx, end=self.template.work)
                await tx.transition(TASK, expect=Stands.RUNNING, to=Stands.WORKER_DONE)
                await self._set_work(tx)
        name, _, more = value.partition("+")
        if name.startswith("running") or more == "attempt":
            await self._to_queued(tx)
            await self._attempt(tx, end=None if value != "running without attempt" else "")
            if more:
                await self._out_of_attempt(tx, name)
        elif name in ("integrating", "merged") or more == "blocked":
            await tx.transition(TASK, expect=Stands.WORKER_DONE, to=Stands.INTEGRATING)
            await self._journal(tx, {"merged": "landed"}.get(name, more))
            if name == "merged":
                commit = self.template.candidate
                await tx.finish(TASK, Outcome.MERGED, expect=Stands.INTEGRATING, commit=commit)
                await tx.run("set_meta", key="settled:default", value=commit)
            elif name == "cancelled":
                await tx.transition(TASK, expect=Stands.INTEGRATING, to=Stands.CANCELLED)
        elif name == "queued":
            await self._to_queued(tx)
        elif name != "worker_done":
            await self._to_end(tx, name)

    async def _set_work(self, tx: Transaction) -> None:
        await tx.run(
            "set_work",
            id=TASK,
            head_commit=self.template.work,
            base_commit=self.template.landed,
        )

    async def _attempt(self, tx: Transaction, end: str | None) -> None:
        """Begin an attempt, and end it with what it left; None leaves it open."""
        task = await tx.start_attempt(await tx.get(TASK), "default")
        if end is not None:
            await tx.run(
                "end_attempt",
                task_id=TASK,
                number=task.attempt,
                ending=Ending.EXITED,
                exit_code=0,
                verdict=AttemptVerdict.TO_INTEGRATOR,
                reason="",
                end_commit=end,
                outcome="ok",
            )

    async def _out_of_attempt(self, tx: Transaction, name: str) -> None:
        if name == "needs_human":
            await tx.ask_human(await tx.get(TASK), "?", reason="asks")
        else:
            await tx.transition(TASK, expect=Stands.RUNNING, to=Stands.CANCELLED)

    async def _to_queued(self, tx: Transaction) -> None:
        task = await tx.get(TASK)
        if task.state is not Stands.QUEUED:
            await tx.ask_human(task, "?", reason="asks")
            await tx.run("answer_checkpoints", task_id=TASK, answer="so")
            await tx.transition(
                TASK, expect=Stands.NEEDS_HUMAN, to=Stands.QUEUED, start_from="branch"
            )

    async def _to_end(self, tx: Transaction, name: str) -> None:
        """Lead a task with or without work to where no attempt is open and nothing lands."""
        task: Task = await tx.get(TASK)
        if name == "cancelled":
            await tx.transition(TASK, expect=task.state, to=Stands.CANCELLED)
        elif name == "needs_revision":
            await tx.transition(TASK, expect=Stands.WORKER_DONE, to=Stands.INTEGRATING)
            await tx.transition(TASK, expect=Stands.INTEGRATING, to=Stands.NEEDS_REVISION)
        else:
            await self._to_queued(tx)
            await self._attempt(tx, end=task.head_commit)
            match name:
                case "failed":
                    await tx.transition(TASK, expect=Stands.RUNNING, to=Stands.FAILED)
                case "noop":
                    await tx.finish(TASK, Outcome.NOOP, expect=Stands.RUNNING)
                case _:
                    await tx.ask_human(await tx.get(TASK), "?", reason="asks")

    async def _journal(self, tx: Transaction, landing: str) -> None:
        if not landing:
            return
        old, new = self.template.landed, self.template.candidate
        (row,) = await tx.run(
            "prepare_landing", repository="default", old_commit=old, new_commit=new
        )
        await tx.run("add_landing_task", landing_id=row["id"], task_id=TASK, commit_id=new)
        await tx.run("set_landing_state", id=row["id"], state=landing, reason="in the way")
