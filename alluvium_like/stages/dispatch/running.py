"""The program of one attempt, run to what it comes to: once, or again after a burst of requests.

While it runs, what it tells is taken in as it comes: tokens and cost go to the attempt's row, and a
budget that is reached ends the run at once, or keeps it from starting; but one that has told of a
good end is left to end. A provider that refuses for a short time is waited for within the attempt's
deadline, longer each time, with the worktree as it is; the program goes on with its own session
where it can.
"""

import asyncio
import math
from dataclasses import replace
from functools import partial

import anyio
from anyio import to_thread

from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import Judged, judge_exit, judge_run
from alluvium_like.agents.prices import CostSource, cost_of
from alluvium_like.agents.record import Record
from alluvium_like.clock import monotonic, time_of_day
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest, run_supervised
from alluvium_like.lifecycle import AgentOutcome, Ending
from alluvium_like.log import get_logger
from alluvium_like.stages.dispatch.prepare import Prepared
from alluvium_like.stages.dispatch.spending import reached
from alluvium_like.stages.dispatch.worker import Worker
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.profiles import BURST_PAUSE
from alluvium_like.task import Spent, Task
from alluvium_like.wake import Wake

log = get_logger(__name__)

_LONGEST_BURST_SECONDS = 600.0
"""A pause that is longer is no burst: the slot is given to others."""
_PATIENCE_SECONDS = 120.0
"""So long a program may try again that its provider refuses; some do for ever, and hold a slot."""


class Running:
    """The runs of one attempt."""

    def __init__(self, parts: Parts, task: Task, prepared: Prepared, request: StopRequest) -> None:
        self._parts = parts
        self._task = task
        self._prepared = prepared
        self._worker: Worker = prepared.worker
        self._request = request
        self._before = Usage()
        self._told = Usage()
        self._changed = Wake()
        self._record: Record | None = None
        self._over = ""

    async def run(self) -> tuple[RunEnd, Judged]:
        """Run the program until it has come to something. Raises what storing its start raises."""
        spec, session = self._prepared.spec, self._worker.call.session
        deadline = monotonic() + spec.timeout_seconds
        judged, bursts = Judged(AgentOutcome.CRASHED), 0
        while True:
            await self._look_at_budgets()
            if self._request.ending is not None:
                return RunEnd(self._request.ending, None, self._over, 0.0, 0), judged
            worker = self._worker.with_session(session, self._before)
            self._record = record = self._new_record(worker)
            left = replace(spec, timeout_seconds=deadline - monotonic())
            end = await self._run_once(await to_thread.run_sync(worker.fill, left, record))
            if record is not None:
                await to_thread.run_sync(record.finish)
            self._before, self._told = self._before.plus(self._told), Usage()
            await self._parts.health.through(self._store_usage)
            judged = await self._judge(end, record)
            session = record.session if record else ""
            pause, bursts = _burst_seconds(judged, bursts), bursts + 1
            if pause > deadline - monotonic() or self._request.requested.is_set():
                if end.ending is Ending.BUDGET:
                    end = replace(end, reason=self._over)
                return end, judged
            log.info("burst_waited_for", seconds=round(pause), reason=judged.reason)
            with anyio.move_on_after(pause):
                await self._request.requested.wait()

    def _new_record(self, worker: Worker) -> Record | None:
        if worker.adapter is None:
            return None
        loop = asyncio.get_running_loop()

        def told(usage: Usage) -> None:
            self._told = usage
            loop.call_soon_threadsafe(self._changed.set)

        reader = worker.adapter.reader(worker.call)
        return Record(reader, self._prepared.transcript, told)

    async def _judge(self, end: RunEnd, record: Record | None) -> Judged:
        if record is None:
            return judge_exit(end.ending, end.exit_code, end.reason)
        if record.session and self._worker.can_resume:
            await self._parts.health.through(partial(self._note_session, record.session))
        adapter = self._worker.adapter
        return judge_run(
            end.ending,
            end.exit_code,
            record,
            needs_end=adapter is not None and adapter.needs_end,
            words=end.reason,
        )

    async def _note_session(self, session: str) -> None:
        task = self._task
        await self._parts.store.write(
            "note_session", task_id=task.id, number=task.attempt, session=session
        )

    async def _run_once(self, spec: RunSpec) -> RunEnd:
        """Run the program, and keep the attempt's row and its budgets meanwhile."""
        error: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            try:
                end = await run_supervised(spec, on_started=self._store_start, stop=self._request)
            except Exception as found:  # noqa: BLE001  raised below: a task group would wrap it
                error = found
            group.cancel_scope.cancel()
        if error is not None:
            raise error
        return end

    async def _watch(self) -> None:
        patience = min(self._prepared.spec.stall_seconds or math.inf, _PATIENCE_SECONDS)
        while not self._over:
            try:
                await self._look_at_budgets()
            except Exception as error:
                if not self._parts.health.tell(error):
                    log.exception("budgets_not_looked_at")
            await self._changed.wait(patience / 2)
            refused = self._record.refused_since if self._record else None
            if refused is not None and monotonic() - refused > patience:
                log.warning("provider_refuses", seconds=round(monotonic() - refused))
                self._request.stop(Ending.STALLED)

    async def _look_at_budgets(self) -> None:
        spent, source = await self._store_usage()
        task, name = self._task, self._worker.name
        over = await reached(self._parts, task.id, task.attempt, name, spent, source)
        end = self._record.end if self._record else None
        if over and not (end and end.ok):
            self._over = over
            log.warning("budget_reached", reason=self._over)
            self._request.stop(Ending.BUDGET)

    async def _store_usage(self) -> tuple[Spent, CostSource]:
        usage = self._before.plus(self._told)
        model = usage.model or self._worker.profile.model
        cost, source = cost_of(usage, model, self._parts.settings.current.prices)
        known = bool(usage.tokens) or usage.cost is not None
        if known:
            await self._parts.store.write(
                "note_usage",
                task_id=self._task.id,
                number=self._task.attempt,
                model=model,
                input_tokens=usage.input_tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
                cost=cost,
                cost_source=source,
            )
        return Spent(usage.tokens, cost or 0.0), source

    async def _store_start(self, identity: ProcessIdentity) -> None:
        start, task = self._prepared.start, self._task
        async with self._parts.store.transaction("attempt_started") as tx:
            await tx.run(
                "identify_attempt",
                task_id=task.id,
                number=task.attempt,
                pid=identity.pid,
                started=identity.started,
                boot_id=identity.boot_id,
            )
            await tx.run(
                "set_task_start",
                task_id=task.id,
                attempt=task.attempt,
                start_commit=start.commit,
                start_merge=start.merge,
                base_commit=self._prepared.base,
            )


def _burst_seconds(judged: Judged, before: int) -> float:
    """Return how long a burst is waited for; infinite where it is none, or a long one.

    `before`: how many were waited for already.
    """
    if not judged.burst:
        return math.inf
    told = judged.resets_at
    seconds = BURST_PAUSE.total_seconds() if told is None else max(told - time_of_day(), 1.0)
    seconds *= 2.0 ** min(before, 20)
    return seconds if seconds <= _LONGEST_BURST_SECONDS else math.inf
