"""One attempt from its start to the row that its end means.

The verdict comes from the exit, from Git and from what the agent claims, by `judge_attempt`. Every
transition is fenced by the attempt's number, so that a late end never touches a newer attempt.
Work is fetched whatever the verdict: a failed attempt's branch is kept.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_never

import anyio.to_thread
import structlog

from alluvium_like import messages
from alluvium_like.agents.evidence import ClaimRead, read_claim, read_question
from alluvium_like.clock import utc_after
from alluvium_like.errors import AlluviumError, StaleTransition
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.process import RunEnd, StopRequest, run_supervised
from alluvium_like.gitrepo.harvest import Harvest, harvest
from alluvium_like.gitrepo.workshop import set_aside
from alluvium_like.guarded import own_path, place
from alluvium_like.lifecycle import (
    AttemptFacts,
    AttemptVerdict,
    Ending,
    Outcome,
    State,
    judge_attempt,
)
from alluvium_like.log import get_logger
from alluvium_like.stages.dispatch.prepare import Prepared, prepare
from alluvium_like.stages.parts import Parts
from alluvium_like.store.writer import Transaction
from alluvium_like.task import Task
from alluvium_like.workspace import SYSTEM_NAME

log = get_logger(__name__)

LONGEST_BACK_OFF = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of an ended attempt; `work` is None where Git was not looked at."""

    end: RunEnd
    work: Harvest | None
    claim: ClaimRead
    question: str | None


async def run_attempt(parts: Parts, task: Task, process_gone: Callable[[], None]) -> None:
    """Run one attempt of a task in state running; the row afterwards says what became of it.

    `process_gone` is called when nothing of the attempt's processes is left. The workshop is gone
    before the row moves: from then on the next attempt may begin.
    """
    with structlog.contextvars.bound_contextvars(task_id=task.id, attempt=task.attempt):
        request = parts.runs.begin(task.id)
        try:
            seen = await _run_and_look(parts, task, request, process_gone)
        finally:
            parts.runs.end(task.id)
        await _conclude(parts, task, seen)
        if seen.work is not None and seen.work.changed:
            await _write_patch(parts, task.id, seen.work)


async def _run_and_look(
    parts: Parts, task: Task, request: StopRequest, process_gone: Callable[[], None]
) -> _Seen:
    work = None
    try:
        prepared = await prepare(parts, task)
    except (AlluviumError, OSError) as error:
        log.exception("attempt_not_prepared")
        end = RunEnd(Ending.NOT_STARTED, None, f"could not be prepared: {error}", 0.0, 0)
    else:
        end = await _run(parts, task, prepared, request)
        process_gone()
        if end.ending is not Ending.SHUTDOWN:
            work = await _take_in(parts, task, prepared)
        if work is not None and work.trouble:
            work = await _keep_workshop(parts, task, prepared, work)
        await anyio.to_thread.run_sync(set_aside, prepared.workshop, parts.workspace.trash)
        parts.wakes.janitor.set()
    agent_dir = parts.workspace.task(task.id).agent
    claim, question = await anyio.to_thread.run_sync(
        lambda: (read_claim(agent_dir), read_question(agent_dir))
    )
    return _Seen(end, work, claim, question)


async def _keep_workshop(parts: Parts, task: Task, prepared: Prepared, work: Harvest) -> Harvest:
    """Keep the repository of an attempt whose work could not be taken as it is, for a person."""
    tasks = parts.workspace.tasks
    where = parts.workspace.task(task.id).attempt(task.attempt).relative_to(tasks)

    def keep() -> None:
        with own_path(tasks, *where.parts) as folder:
            os.rename(prepared.workshop.git_dir, "workshop.git", dst_dir_fd=folder)

    try:
        await anyio.to_thread.run_sync(keep)
    except OSError:  # it is gone: that is the trouble
        log.exception("workshop_not_kept")
        return work
    kept = f"{work.trouble}; its repository is kept: tasks/{where}/workshop.git"
    return replace(work, trouble=kept)


async def _write_patch(parts: Parts, task_id: str, work: Harvest) -> None:
    """Write patch.diff for people, after the row: nobody waits for it."""

    def write(diff: str) -> None:
        with own_path(parts.workspace.tasks, task_id, SYSTEM_NAME) as folder:
            place(folder, "patch.diff", diff)

    try:
        diff = await parts.integration.diff(work.start, work.commit)
        await anyio.to_thread.run_sync(write, diff)
    except (AlluviumError, OSError):
        log.exception("patch_not_written")


async def _run(parts: Parts, task: Task, prepared: Prepared, request: StopRequest) -> RunEnd:
    async def store_identity(identity: ProcessIdentity) -> None:
        await parts.store.write(
            "identify_attempt",
            task_id=task.id,
            number=task.attempt,
            pid=identity.pid,
            started=identity.started,
            boot_id=identity.boot_id,
        )

    log.info("attempt_starting", start=prepared.start.commit[:10])
    end = await run_supervised(prepared.spec, on_started=store_identity, stop=request)
    log.info(
        "attempt_ended",
        ending=end.ending,
        exit_code=end.exit_code,
        seconds=round(end.duration_seconds, 3),
        survivors=end.survivors,
    )
    return end


async def _take_in(parts: Parts, task: Task, prepared: Prepared) -> Harvest:
    try:
        return await harvest(
            parts.git,
            prepared.workshop,
            prepared.source,
            task_id=task.id,
            branch=task.branch,
            start=prepared.start,
            author=parts.settings.identity,
        )
    except (AlluviumError, OSError) as error:
        log.exception("harvest_failed")
        start = prepared.start.commit
        return Harvest(start, start, changed=False, trouble=str(error))


async def _conclude(parts: Parts, task: Task, seen: _Seen) -> None:
    end, work, claim, question = seen.end, seen.work, seen.claim, seen.question
    verdict = judge_attempt(
        AttemptFacts(
            ending=end.ending,
            exit_code=end.exit_code,
            claim=claim.claim,
            asked_human=question is not None,
            changed=bool(work and work.changed),
            continued=bool(task.head_commit),
            trouble=work.trouble if work else "",
        )
    )
    reason = _reason(verdict, end, work, claim)
    ended: dict[str, str | int | None] = {
        "task_id": task.id,
        "number": task.attempt,
        "ending": end.ending,
        "exit_code": end.exit_code,
        "verdict": verdict,
        "reason": reason,
        "end_commit": work.commit if work else "",
    }
    try:
        async with parts.store.transaction() as tx:
            await tx.run("end_attempt", **ended)
            await _move(parts, tx, task, verdict, reason, work, claim, question)
    except StaleTransition:  # cancelled meanwhile: the attempt's end is history all the same
        await parts.store.write("end_attempt", **ended)
        return
    log.info("attempt_judged", verdict=verdict, reason=reason)
    if verdict is AttemptVerdict.NOOP:
        await parts.integration.forget(task.id)
    parts.wakes.integrate.set()


async def _move(
    parts: Parts,
    tx: Transaction,
    task: Task,
    verdict: AttemptVerdict,
    reason: str,
    work: Harvest | None,
    claim: ClaimRead,
    question: str | None,
) -> None:
    here, fence = State.RUNNING, task.attempt
    match verdict:
        case AttemptVerdict.TO_INTEGRATOR:
            await tx.transition(
                task.id,
                expect=here,
                to=State.WORKER_DONE,
                reason=reason,
                in_attempt=fence,
                head_commit=_taken(task, work),
                summary=claim.summary,
                failures=0,
            )
        case AttemptVerdict.NOOP:
            await tx.transition(
                task.id,
                expect=here,
                to=State.DONE,
                reason=reason,
                in_attempt=fence,
                outcome=Outcome.NOOP,
                summary=claim.summary,
            )
        case AttemptVerdict.ASK_HUMAN:
            text = question or (work.trouble if work else "") or claim.summary
            await tx.ask_human(
                task,
                text or messages.NO_QUESTION,
                reason=reason,
                head_commit=_taken(task, work),
                failures=0,
            )
        case AttemptVerdict.FAILED:
            await tx.transition(
                task.id, expect=here, to=State.FAILED, reason=reason, in_attempt=fence
            )
        case AttemptVerdict.RETRY:
            await _retry_or_fail(parts, tx, task, reason)
        case AttemptVerdict.AGAIN_UNCOUNTED:
            await tx.transition(
                task.id, expect=here, to=State.QUEUED, reason=reason, in_attempt=fence
            )
        case AttemptVerdict.CANCELLED:
            await tx.transition(
                task.id, expect=here, to=State.CANCELLED, reason=reason, in_attempt=fence
            )
        case _:
            assert_never(verdict)


async def _retry_or_fail(parts: Parts, tx: Transaction, task: Task, reason: str) -> None:
    config = parts.settings.current.agent
    if task.failures >= config.retries:
        await tx.transition(
            task.id,
            expect=State.RUNNING,
            to=State.FAILED,
            reason=reason,
            in_attempt=task.attempt,
            failures=task.failures + 1,
        )
        return
    longest = LONGEST_BACK_OFF.total_seconds()
    seconds = min(config.retry_delay_seconds * 2.0 ** min(task.failures, 64), longest)
    due = utc_after(timedelta(seconds=seconds))
    await tx.transition(
        task.id,
        expect=State.RUNNING,
        to=State.QUEUED,
        reason=reason,
        in_attempt=task.attempt,
        failures=task.failures + 1,
        not_before=due,
    )


def _taken(task: Task, work: Harvest | None) -> str:
    """Return the commit that a later attempt and the integrator go on from.

    Work with conflict markers left in it is none: the conflict comes up again, for another round.
    """
    if work is None or work.unresolved or not (work.changed or task.head_commit):
        return task.head_commit
    return work.commit


def _reason(verdict: AttemptVerdict, end: RunEnd, work: Harvest | None, claim: ClaimRead) -> str:
    notes = "; ".join(work.notes) if work else ""
    match verdict:
        case AttemptVerdict.TO_INTEGRATOR:
            unresolved = work.unresolved if work else ""
            return "; ".join(filter(None, (unresolved, notes, claim.problem)))
        case AttemptVerdict.NOOP:
            return "; ".join(filter(None, ("the agent changed nothing in the repository", notes)))
        case AttemptVerdict.ASK_HUMAN:
            return (work.trouble if work else "") or "the agent asks a person"
        case AttemptVerdict.FAILED:
            return f"the agent says that it failed: {claim.summary or 'no reason given'}"
        case AttemptVerdict.RETRY:
            return messages.attempt_failed(end.ending, end.exit_code, end.reason)
        case AttemptVerdict.AGAIN_UNCOUNTED:
            return "the daemon stopped; the attempt does not count"
        case AttemptVerdict.CANCELLED:
            return "cancelled"
        case _:
            assert_never(verdict)
