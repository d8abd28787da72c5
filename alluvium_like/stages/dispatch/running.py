"""The program of one attempt, run to what it comes to: once, or again after a burst of requests.

While it runs, what it tells is taken in as it comes: tokens and cost go to the attempt's row, and a
budget that is reached ends the run at once, or keeps it from starting; but one that has told of a
good end is left to end. A provider that refuses for a short time is waited for within the attempt's
deadline, longer each time, with the worktree as it is; the program goes on with its own session
where it can. One whose session is gone begins a new one within the attempt, and is told everything.
"""

import asyncio
import math
from dataclasses import replace
from functools import partial, reduce

import anyio
from anyio import to_thread

from alluvium_like import messages
from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import NOT_RUN, Judged, judge
from alluvium_like.agents.prices import CostSource, cost_of_all
from alluvium_like.agents.record import Record
from alluvium_like.alongside import alongside
from alluvium_like.clock import monotonic, time_of_day
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest
from alluvium_like.lifecycle import AgentOutcome, Ending, State
from alluvium_like.log import get_logger
from alluvium_like.masking import mask
from alluvium_like.sandbox.run import run_in_box
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
        self._ended: list[Usage] = []
        self._told = Usage()
        self._session = prepared.session
        self._session_noted = ""
        self._changed = Wake()
        self._record: Record | None = None
        self._refusals: list[str] = []
        """What it was not let reach, and is not yet stored."""
        self._why_stopped = ""
        """Why it was stopped, in words."""

    async def run(self) -> tuple[RunEnd, Judged]:
        """Run the program until it has come to something. Raises what storing its start raises."""
        spec = self._prepared.spec
        deadline = monotonic() + spec.timeout_seconds
        judged, bursts = NOT_RUN, 0
        while True:
            await self._look_at_budgets()
            if self._request.ending is not None:
                return RunEnd(self._request.ending, None, self._why_stopped, 0.0, 0), judged
            worker = self._worker.with_session(self._session, self._told_with_session())
            self._record = record = self._new_record(worker)
            left = replace(spec, timeout_seconds=deadline - monotonic())
            end = await self._run_once(await to_thread.run_sync(worker.fill, left, record))
            if self._why_stopped:
                end = replace(end, reason=self._why_stopped)
            elif end.ending is Ending.TIMED_OUT:  # pauses count too
                end = replace(end, reason=messages.out_of_time(spec.timeout_seconds))
            if record is not None:
                await to_thread.run_sync(record.finish)
            self._ended, self._told = [*self._ended, self._told], Usage()
            await self._parts.health.through(self._store_told)
            await self._parts.health.through(self._store_refusals)
            judged = judge(end, record)
            if _lost_its_session(worker, end, judged, record):
                log.warning("session_lost", reason=judged.reason)
                self._session = ""
                continue
            pause, bursts = _burst_seconds(judged, bursts), bursts + 1
            left_then = deadline - monotonic() - pause
            if left_then < spec.timeout_seconds / 2 or self._request.requested.is_set():
                return end, judged
            log.info("burst_waited_for", seconds=round(pause), reason=judged.reason)
            with anyio.move_on_after(pause):
                await self._request.requested.wait()

    def _new_record(self, worker: Worker) -> Record | None:
        loop = asyncio.get_running_loop()

        def told(usage: Usage) -> None:
            self._told = usage
            loop.call_soon_threadsafe(self._changed.set)

        return worker.record(self._prepared.transcript, told)

    async def _run_once(self, spec: RunSpec) -> RunEnd:
        """Run the program, and keep the attempt's row and its budgets meanwhile."""
        run = partial(
            run_in_box,
            spec,
            self._prepared.worker.box,
            on_started=self._store_start,
            stop=self._request,
            on_refused=self._refused,
        )
        return await alongside(self._watch, run)

    def _refused(self, host: str, port: int, reason: str) -> None:
        self._refusals.append(messages.not_let_reach(host, port, reason))
        self._changed.set()

    async def _store_refusals(self) -> None:
        while self._refusals:
            reason = self._refusals[0]
            log.warning("network_refused", reason=reason)
            await self._parts.store.write(
                "explain_task", id=self._task.id, state=State.RUNNING, reason=mask(reason)
            )
            self._refusals.remove(reason)

    async def _watch(self) -> None:
        patience = min(self._prepared.spec.stall_seconds or math.inf, _PATIENCE_SECONDS)
        while not self._why_stopped:
            try:
                await self._look_at_budgets()
                await self._store_refusals()
            except Exception as error:
                if not self._parts.health.tell(error):
                    log.exception("budgets_not_looked_at")
            await self._changed.wait(patience / 2)
            refused = self._record.refused_seconds if self._record else 0.0
            if refused > patience:
                self._stop(Ending.STALLED, messages.refused_all_the_time(refused))

    async def _look_at_budgets(self) -> None:
        spent, source = await self._store_told()
        end = self._record.end if self._record else None
        if end is not None and end.ok:
            return
        known = source is not CostSource.UNKNOWN or self._worker.costs_at_end
        if over := await reached(
            self._parts, self._task, self._worker.name, spent, costs_known=known
        ):
            self._stop(Ending.BUDGET, over)

    def _stop(self, ending: Ending, reason: str) -> None:
        self._why_stopped = reason
        log.warning("attempt_stopped", ending=ending, reason=reason)
        self._request.stop(ending)

    def _told_with_session(self) -> Usage:
        known = self._prepared.told if self._session == self._prepared.session else Usage()
        return reduce(Usage.plus, self._ended, known)

    async def _store_told(self) -> tuple[Spent, CostSource]:
        """Store the session and what has been used so far; return the latter."""
        await self._store_session()
        runs = [run for run in (*self._ended, self._told) if run.tokens or run.cost is not None]
        usage = reduce(Usage.plus, runs, Usage())
        model = usage.model or self._worker.profile.model
        prices = self._parts.settings.current.prices
        cost, source = cost_of_all(runs, model, prices)
        if runs:
            await self._parts.store.write(
                "note_usage",
                task_id=self._task.id,
                number=self._task.attempt,
                model=mask(model),
                input_tokens=usage.input_tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
                cost=cost,
                cost_source=source,
            )
        return Spent(usage.tokens, cost or 0.0), source

    async def _store_session(self) -> None:
        told = self._record.session if self._record else ""
        if not told or told == self._session_noted or not self._worker.can_resume:
            return
        await self._parts.store.write(
            "note_session", task_id=self._task.id, number=self._task.attempt, session=told
        )
        self._session = self._session_noted = told

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


def _lost_its_session(worker: Worker, end: RunEnd, judged: Judged, record: Record | None) -> bool:
    """Tell whether a program that was to go on with a session failed at once: it is gone."""
    if not worker.call.session or record is None or end.ending is not Ending.EXITED:
        return False
    return judged.outcome is AgentOutcome.CRASHED and not record.did_something


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
