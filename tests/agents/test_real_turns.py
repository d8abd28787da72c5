"""What comes after an attempt of a real agent program: a quota that is back, another agent's turn,
a session that is gone, a run that gets nowhere."""

import time

import pytest
from agent_bed import ITEM, Scene, model
from model_server.script import Case
from model_server.server import Request
from programs import IN_THE_GATE, PROGRAMS, Program, chosen
from test_real_agents import ENDED, installed, program, scene

from alluvium_like.lifecycle import AgentOutcome, Ending, Outcome, State

__all__ = ["program", "scene"]

pytestmark = pytest.mark.timeout(900)

CODEX = [each for each in chosen() if each.name not in IN_THE_GATE[1:]]
"""One is enough in the gate."""
BACK_SOON = [each for each in chosen() if each.name not in ("codex", "opencode", *IN_THE_GATE[2:])]
"""codex tells the minute only, and opencode waits in silence."""


def only(programs: list[Program]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "program", programs, ids=lambda program: program.name, indirect=True
    )


@only(BACK_SOON)
def test_a_quota_that_is_back_lets_its_agent_go_on_by_itself(
    scene: Scene, program: Program
) -> None:
    with model(program, Case.QUOTA, resets_at=int(time.time()) + 20) as server:
        scene.add(program, server.url)
        scene.play()
        parked = scene.wait_until_parked(program.name)
        assert scene.bed.landed_task_ids() == []
        server.script = program.script("hello.txt")
        scene.bed.wait_for(ITEM, *ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    refused, worked = scene.attempts
    assert worked.started_at >= parked.until
    assert (refused.outcome, worked.outcome) == (AgentOutcome.QUOTA, AgentOutcome.OK)
    assert scene.parked == {}


def test_another_program_takes_over_while_a_quota_is_used_up(scene: Scene) -> None:
    first = installed(chosen()[0])
    second = installed(next(each for each in PROGRAMS if each.name != first.name))
    with model(first, Case.QUOTA) as empty, model(second, Case.OK) as full:
        scene.add(first, empty.url, fallback=second.name)
        scene.add(second, full.url)
        scene.play(ends=ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert [each.agent for each in scene.attempts] == [first.name, second.name]
    assert scene.task.failures == 0
    assert list(scene.parked) == [first.name]


@only([each for each in chosen() if each.resumes])
def test_a_session_that_is_gone_is_begun_anew(scene: Scene, program: Program) -> None:
    """Whatever the program wrote is taken away between its attempt and the revision."""
    bed = scene.bed
    begun = bed.home / "begun"
    forget = f"find {bed.home} {bed.root}/tasks/*/.agent/sessions -newer {begun} -type f -delete"

    def notice(request: Request) -> None:
        if request.holds("This is a revision"):
            server.script = program.script("again.txt")

    with model(program, Case.OK, on_request=notice) as server:
        scene.tables["sandbox"] = {"mode": "none"}  # the tests reach the agent's files
        scene.add(program, server.url, sandbox="auto")
        begun.touch()
        scene.play(
            f"test ! -e hello.txt || test -e again.txt || {{ {forget}; false; }}", ends=ENDED
        )
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    first, second = scene.attempts
    assert (first.outcome, second.outcome) == (AgentOutcome.OK, AgentOutcome.OK)
    assert program.edits_by_text or second.session != first.session  # aider's have no names
    assert second.session
    assert bed.base_file("again.txt") == "hello"


@only(CODEX)
def test_a_run_that_gets_nowhere_is_ended_with_all_its_processes(
    scene: Scene, program: Program
) -> None:
    with model(program, Case.ENDLESS, interval=600.0) as server:
        scene.add(program, server.url, stall_seconds=20)
        scene.play(ends=ENDED)
        assert scene.processes() == []
    (attempt,) = scene.attempts
    assert (attempt.outcome, attempt.ending) == (AgentOutcome.STALL, Ending.STALLED)
    assert scene.task.state == State.FAILED
