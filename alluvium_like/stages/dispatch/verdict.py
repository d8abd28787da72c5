"""What an ended attempt means for its task: judged by the table, stored in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import assert_never

from alluvium_like import messages
from alluvium_like.agents.evidence import NO_CLAIM, ClaimRead
from alluvium_like.agents.outcome import Judged
from alluvium_like.clock import utc_after
from alluvium_like.config.agents import Profile
from alluvium_like.errors import StaleTransition
from alluvium_like.execution.process import RunEnd
from alluvium_like.gitrepo.harvest import Harvest
from alluvium_like.lifecycle import (
    PARKING,
    AgentOutcome,
    AttemptFacts,
    AttemptVerdict,
    Ending,
    Outcome,
    State,
    judge_attempt,
)
from alluvium_like.log import get_logger
from alluvium_like.masking import mask
from alluvium_like.stages.dispatch.history import refusals, was_cut_off
from alluvium_like.stages.dispatch.tampering import Given
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.profiles import Chosen
from alluvium_like.store.transaction import Transaction
from alluvium_like.task import Attempt, Task

log = get_logger(__name__)

_LONGEST_PAUSE = timedelta(hours=1)
_MOST_REFUSALS = 5
"""So often in a row a task's attempts may end uncounted while others of its agent go well."""
_ASKS = "the agent asks a person"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an ended attempt; `work` is None where Git was not looked at.

    `fared`: how `agent`'s program fared. `given`: what the task had been given, looked at after the
    attempt, or instead of it.
    """

    agent: Chosen
    end: RunEnd
    fared: Judged
    given: Given
    work: Harvest | None = None
    claim: ClaimRead = NO_CLAIM
    question: str | None = None


async def conclude(parts: Parts, task: Task, seen: Seen) -> None:
    """End an attempt in the store, and its task's turn with it; one transaction."""
    end, work = seen.end, seen.work
    attempts = await parts.health.through(lambda: parts.store.attempts(task.id))
    earlier = attempts[: task.attempt - 1]
    unfinished = bool(task.head_commit) and was_cut_off(earlier)
    provoked = await parts.health.through(lambda: _is_provoked(parts, seen, earlier))
    verdict = judge_attempt(
        AttemptFacts(
            ending=end.ending,
            exit_code=end.exit_code,
            outcome=seen.fared.outcome,
            unfinished=unfinished,
            provoked=provoked,
            claim=seen.claim.claim,
            asked_human=seen.question is not None,
            changed=bool(work and work.changed),
            continued=bool(task.head_commit),
            problem=seen.given.alarm or (work.problem if work else ""),
        )
    )
    reason = mask(_reason(verdict, seen))
    if unfinished and verdict is AttemptVerdict.ASK_HUMAN and reason == _ASKS:
        reason = messages.UNFINISHED
    ended: dict[str, str | int | None] = {
        "task_id": task.id,
        "number": task.attempt,
        "ending": end.ending,
        "exit_code": end.exit_code,
        "verdict": verdict,
        "reason": reason,
        "end_commit": work.commit if work else "",
        "outcome": seen.fared.outcome,
    }

    async def store_end() -> None:
        async with parts.store.transaction("attempt_ended") as tx:
            await tx.run("end_attempt", **ended)
            if verdict is AttemptVerdict.ASK_HUMAN or not seen.given.alarm:  # told, or no matter
                await tx.run("seal_input", id=task.id, input_seal=seen.given.seal)
            await _move(parts, tx, task, seen, verdict, reason)

    try:
        await parts.health.through(store_end)
    except StaleTransition:
        # Cancelled meanwhile, and the attempt's end is history all the same; or stored already by
        # a commit that was told to have failed.
        await parts.health.through(lambda: parts.store.write("end_attempt", **ended))
        parts.wakes.integrate.set()
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
    work, summary = seen.work, mask(seen.claim.summary)
    match verdict:
        case AttemptVerdict.TO_INTEGRATOR:
            head = _taken(task, work)
            await step(to=State.WORKER_DONE, head_commit=head, summary=summary, failures=0)
        case AttemptVerdict.NOOP:
            await step(to=State.DONE, outcome=Outcome.NOOP, summary=summary)
        case AttemptVerdict.ASK_HUMAN:
            asks = _asks(seen) or summary
            question = seen.question or asks
            question = mask("\n\n".join(filter(None, (seen.given.alarm, question))))
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
            profile = seen.agent.profile
            failures = task.failures + 1
            if failures > profile.retries:
                await step(to=State.FAILED, failures=failures)
            else:
                due = utc_after(_pause_before(failures, profile.retry_delay_seconds))
                await step(to=State.QUEUED, failures=failures, not_before=due)
        case AttemptVerdict.AGAIN_UNCOUNTED if seen.fared.outcome in PARKING:
            kept = work is not None and work.changed
            await step(
                to=State.QUEUED,
                head_commit=_taken(task, work),
                start_from="branch" if kept else task.start_from,
            )
        case AttemptVerdict.AGAIN_UNCOUNTED:
            await step(to=State.QUEUED)
        case AttemptVerdict.CANCELLED:
            await step(to=State.CANCELLED)
        case _:
            assert_never(verdict)


async def _is_provoked(parts: Parts, seen: Seen, earlier: Sequence[Attempt]) -> bool:
    """Tell whether its agent's provider refuses this very task: others went well meanwhile."""
    refused = refusals(earlier, seen.agent.name) if seen.fared.outcome in PARKING else []
    if len(refused) + 1 < _MOST_REFUSALS:
        return False
    return await parts.store.worked_since(seen.agent.name, refused[-1].started_at)


def longest_pause(profiles: Iterable[Profile]) -> timedelta:
    """Return how long a task may back off; where more is left, the clock was set back meanwhile."""
    return max(_pause_before(max(each.retries, 1), each.retry_delay_seconds) for each in profiles)


def _pause_before(failures: int, first_seconds: float) -> timedelta:
    """Return how long the task backs off after so many failures; it doubles each time."""
    longest = _LONGEST_PAUSE.total_seconds()
    return timedelta(seconds=min(first_seconds * 2.0 ** min(failures - 1, 64), longest))


def _taken(task: Task, work: Harvest | None) -> str:
    """Return the commit that a later attempt and the integrator go on from.

    Work with conflict markers left in it is none: the conflict comes up again, for another round.
    """
    if work is None or work.unresolved or not (work.changed or task.head_commit):
        return task.head_commit
    return work.commit


def _asks(seen: Seen) -> str:
    """Return what a person is asked where the agent itself asks nothing."""
    if seen.end.ending is Ending.BUDGET:
        return messages.budget_reached(seen.end.reason, seen.work.unresolved if seen.work else "")
    if seen.work is not None and seen.work.problem:
        return seen.work.problem
    if seen.fared.outcome is AgentOutcome.REFUSED:
        return messages.agent_fared(seen.fared.outcome, seen.fared.reason)
    if seen.fared.outcome in PARKING:
        return messages.refused_again(_MOST_REFUSALS, seen.fared.reason)
    return ""


def _reason(verdict: AttemptVerdict, seen: Seen) -> str:
    end, work, claim = seen.end, seen.work, seen.claim
    notes = "; ".join(work.notes) if work else ""
    match verdict:
        case AttemptVerdict.TO_INTEGRATOR:
            unresolved = work.unresolved if work else ""
            return "; ".join(filter(None, (unresolved, notes, claim.problem)))
        case AttemptVerdict.NOOP:
            return "; ".join(filter(None, ("the agent changed nothing in the repository", notes)))
        case AttemptVerdict.ASK_HUMAN:
            return seen.given.alarm or _asks(seen) or _ASKS
        case AttemptVerdict.FAILED:
            return f"the agent says that it failed: {claim.summary or 'no reason given'}"
        case AttemptVerdict.RETRY:
            if end.ending is Ending.NOT_STARTED:
                return f"the agent could not be started: {end.reason}"
            return messages.agent_fared(seen.fared.outcome, seen.fared.reason)
        case AttemptVerdict.AGAIN_UNCOUNTED:
            if seen.fared.outcome in PARKING:
                fared = messages.agent_fared(seen.fared.outcome, seen.fared.reason)
                return f"{fared}; the attempt does not count"
            if end.ending is Ending.MACHINE:
                return f"the machine was in trouble; the attempt does not count: {end.reason}"
            return "the daemon stopped; the attempt does not count"
        case AttemptVerdict.CANCELLED:
            return "cancelled"
        case _:
            assert_never(verdict)
