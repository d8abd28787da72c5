"""The law of the lifecycle: every state reachable, every end judged by the table."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from alluvium_like.lifecycle import (
    PARKING,
    TRANSITIONS,
    AgentOutcome,
    AttemptFacts,
    AttemptVerdict,
    Claim,
    Ending,
    State,
    judge_attempt,
)


def facts(
    ending: Ending = Ending.EXITED,
    exit_code: int | None = 0,
    claim: Claim = Claim.NOTHING,
    *,
    asked_human: bool = False,
    changed: bool = True,
    continued: bool = False,
    problem: str = "",
    unfinished: bool = False,
) -> AttemptFacts:
    seen = AttemptFacts(ending, exit_code, claim, asked_human, changed, continued, problem)
    return replace(seen, unfinished=unfinished)


def test_every_state_has_a_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {State.QUEUED, State.WAITING}
    for _ in State:
        reached |= {to for state in reached for to in TRANSITIONS[state]}
    assert reached == set(State)


def test_done_is_for_good_and_only_the_integrator_or_a_noop_gets_there() -> None:
    assert TRANSITIONS[State.DONE] == frozenset()
    before = {state for state, targets in TRANSITIONS.items() if State.DONE in targets}
    assert before == {State.RUNNING, State.INTEGRATING}


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (facts(), AttemptVerdict.TO_INTEGRATOR),
        (facts(claim=Claim.SUCCEEDED), AttemptVerdict.TO_INTEGRATOR),
        (facts(changed=False), AttemptVerdict.NOOP),
        (facts(changed=False, continued=True), AttemptVerdict.TO_INTEGRATOR),
        (facts(claim=Claim.NEEDS_HUMAN), AttemptVerdict.ASK_HUMAN),
        (facts(asked_human=True, claim=Claim.SUCCEEDED), AttemptVerdict.ASK_HUMAN),
        (facts(claim=Claim.FAILED), AttemptVerdict.FAILED),
        (facts(problem="elsewhere"), AttemptVerdict.ASK_HUMAN),
        (facts(exit_code=3), AttemptVerdict.RETRY),
        (facts(exit_code=-9), AttemptVerdict.RETRY),
        (facts(Ending.TIMED_OUT, -15), AttemptVerdict.RETRY),
        (facts(Ending.NOT_STARTED, None), AttemptVerdict.RETRY),
        (facts(Ending.SHUTDOWN, -15), AttemptVerdict.AGAIN_UNCOUNTED),
        (facts(Ending.LOST, None), AttemptVerdict.AGAIN_UNCOUNTED),
        (facts(Ending.CANCELLED, -15), AttemptVerdict.CANCELLED),
        (facts(changed=False, continued=True, unfinished=True), AttemptVerdict.ASK_HUMAN),
        (facts(changed=True, unfinished=True), AttemptVerdict.TO_INTEGRATOR),
        (
            facts(claim=Claim.SUCCEEDED, changed=False, continued=True, unfinished=True),
            AttemptVerdict.TO_INTEGRATOR,
        ),
    ],
)
def test_the_table_of_attempt_ends(seen: AttemptFacts, verdict: AttemptVerdict) -> None:
    assert judge_attempt(seen) is verdict


def test_nothing_but_a_clean_exit_ever_reaches_the_integrator() -> None:
    """Whatever an agent claims, writes or commits."""
    choices = itertools.product(
        *(Ending, (0, 1, -9, None), Claim, (True, False), (True, False), (True, False)),
        *(("", "x"), AgentOutcome),
    )
    for seen in itertools.starmap(AttemptFacts, choices):
        ending, code, claim = seen.ending, seen.exit_code, seen.claim
        asked, problem = seen.asked_human, seen.problem
        verdict = judge_attempt(seen)
        if verdict in (AttemptVerdict.TO_INTEGRATOR, AttemptVerdict.NOOP):
            assert ending is Ending.EXITED
            assert code == 0
            assert seen.outcome is AgentOutcome.OK
            assert claim in (Claim.SUCCEEDED, Claim.NOTHING)
            assert not asked
            assert not problem


@pytest.mark.parametrize("outcome", sorted(PARKING))
@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, AttemptVerdict.AGAIN_UNCOUNTED),
        ({"problem": "elsewhere"}, AttemptVerdict.ASK_HUMAN),
        ({"provoked": True}, AttemptVerdict.ASK_HUMAN),
    ],
)
def test_a_task_waits_for_its_agent_unless_it_is_the_task_itself(
    outcome: AgentOutcome, more: dict[str, Any], verdict: AttemptVerdict
) -> None:
    seen = replace(facts(exit_code=1, changed=False), outcome=outcome, **more)
    assert judge_attempt(seen) is verdict
