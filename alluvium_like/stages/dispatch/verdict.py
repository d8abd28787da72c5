"""What an ended attempt means for its task: judged by the table, stored in one transaction."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import assert_never

from alluvium_like import messages
from alluvium_like.agents.evidence import ClaimRead
from alluvium_like.clock import utc_after
from alluvium_like.errors import StaleTransition
from alluvium_like.execution.process import RunEnd
from alluvium_like.gitrepo.harvest import Harvest
from alluvium_like.lifecycle import (
    AttemptFacts,
    AttemptVerdict,
    Outcome,
    State,
    judge_attempt,
)
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts
from alluvium_like.store.transaction import Transaction
from alluvium_like.task import Task

log = get_logger(__name__)

LONGEST_BACK_OFF = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an ended attempt; `work` is None where Git was not looked at."""

    end: RunEnd
    work: Harvest | None
    claim: ClaimRead
    question: str | None


async def conclude(parts: Parts, task: Task, seen: Seen) -> None:
    """End an attempt in the store, and its task's turn with it; one transaction."""
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
            await _move(parts, tx, task, seen, verdict, reason)
    except StaleTransition:  # cancelled meanwhile: the attempt's end is history all the same
        await parts.store.write("end_attempt", **ended)
        return
    log.info("attempt_judged", verdict=verdict, reason=reason)
    if verdict is AttemptVerdict.NOOP:
        await parts.integration.forget(task.id)
    parts.wakes.integrate.set()


async def _move(
    parts: Parts, tx: Transaction, task: Task, seen: Seen, verdict: AttemptVerdict, reason: str
) -> None:
    step = partial(
        tx.transition, task.id, expect=State.RUNNING, in_attempt=task.attempt, reason=reason
    )
    work, summary = seen.work, seen.claim.summary
    match verdict:
        case AttemptVerdict.TO_INTEGRATOR:
            head = _taken(task, work)
            await step(to=State.WORKER_DONE, head_commit=head, summary=summary, failures=0)
        case AttemptVerdict.NOOP:
            await step(to=State.DONE, outcome=Outcome.NOOP, summary=summary)
        case AttemptVerdict.ASK_HUMAN:
            question = seen.question or (work.trouble if work else "") or summary
            head = _taken(task, work)
            await tx.ask_human(
                task,
                question or messages.NO_QUESTION,
                reason=reason,
                head_commit=head,
                failures=0,
            )
        case AttemptVerdict.FAILED:
            await step(to=State.FAILED)
        case AttemptVerdict.RETRY:
            config = parts.settings.current.agent
            failures = task.failures + 1
            if failures > config.retries:
                await step(to=State.FAILED, failures=failures)
            else:
                due = utc_after(_pause_before(failures, config.retry_delay_seconds))
                await step(to=State.QUEUED, failures=failures, not_before=due)
        case AttemptVerdict.AGAIN_UNCOUNTED:
            await step(to=State.QUEUED)
        case AttemptVerdict.CANCELLED:
            await step(to=State.CANCELLED)
        case _:
            assert_never(verdict)


def _pause_before(failures: int, first_seconds: float) -> timedelta:
    """Return how long the task backs off after so many failures; it doubles each time."""
    longest = LONGEST_BACK_OFF.total_seconds()
    return timedelta(seconds=min(first_seconds * 2.0 ** min(failures - 1, 64), longest))


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
