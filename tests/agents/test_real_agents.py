"""The real agent programs in a real daemon, against a model that plays a script; loopback only.

`python tests/agents/install.py` installs them, in the versions that are pinned. Those of the gate
are tested; `python tests/agents/run_all.py` tests all of them and writes the table of README.
"""

import time
from collections.abc import Callable

import install
import pytest
from agent_bed import ITEM, Scene, model, nobody, seconds
from bed import Bed
from model_server.script import Case, Script
from model_server.server import ModelServer, Request
from programs import IN_THE_GATE, NOTHING, PROGRAMS, Program, chosen

from alluvium_like.lifecycle import AgentOutcome, AttemptVerdict, Ending, Outcome, State

pytestmark = pytest.mark.timeout(900)

Show = Callable[..., None]
ENDED = (State.DONE, State.FAILED, State.NEEDS_HUMAN)


def installed(program: Program) -> Program:
    if install.program(program.name) is None:
        pytest.skip(f"{program.name} is not there: python tests/agents/install.py {program.name}")
    return program


@pytest.fixture(params=chosen(), ids=lambda program: program.name)
def program(request: pytest.FixtureRequest) -> Program:
    return installed(request.param)


@pytest.fixture
def scene(bed: Bed) -> Scene:
    return Scene(bed)


@pytest.fixture
def show(program: Program, record_property: Callable[[str, object], None]) -> Show:
    """Put into the table what a test has seen, and why that is not usual."""

    def put(words: str, trouble: str = "") -> None:
        record_property("version", install.version(program.name))
        record_property("showed", words)
        record_property("why", program.shows(trouble).why if trouble else "")

    return put


def parked_and_uncounted(scene: Scene, program: Program, trouble: str) -> str:
    """Wait until an agent is parked for a trouble that is not its task's; return until when."""
    parked = scene.wait_until_parked(program.name)
    shows = program.shows(trouble)
    first = scene.attempts[0]
    assert (first.outcome, first.ending) == (shows.outcome, shows.ending), first
    assert first.verdict == AttemptVerdict.AGAIN_UNCOUNTED
    assert parked.outcome == shows.outcome
    assert (scene.task.failures, scene.task.revision_round) == (0, 0)
    assert scene.task.state not in ENDED
    assert f"parked      {program.name} until {parked.until}" in scene.bed.cli("status")
    assert scene.bed.landed_task_ids() == []
    return parked.until


def deadline(program: Program, trouble: str) -> dict[str, object]:
    if program.shows(trouble).ending is Ending.TIMED_OUT:
        return {"timeout_seconds": program.cut_after}
    return {}


def test_what_it_writes_is_merged_and_what_it_tells_is_kept(
    scene: Scene, program: Program, show: Show
) -> None:
    with model(program, Case.OK) as server:
        scene.add(program, server.url)
        scene.play(ends=ENDED)
    assert (scene.task.state, scene.task.outcome) == (State.DONE, Outcome.MERGED), scene.task.reason
    assert scene.bed.base_file("hello.txt") == "hello"
    assert scene.bed.landed_task_ids() == [scene.task.id]

    (attempt,) = scene.attempts
    answers, usage = len(server.requests), server.script.usage
    assert attempt.outcome == AgentOutcome.OK
    assert attempt.input_tokens == pytest.approx(answers * usage.input, rel=0.03)  # 1.2k of aider
    assert attempt.output_tokens == answers * usage.output
    kinds = {told["kind"] for told in scene.transcript()}
    assert kinds >= {"usage", "end"}
    assert ("message" in kinds) == (not program.last)  # a last command stands for the last words
    assert kinds & {"tool_call", "file_change"} or not program.tells_tools
    assert bool(attempt.session) == program.resumes

    assert all(request.key for request in server.requests)
    assert scene.told_the_key() == []
    (agent,) = (each for each in scene.bed.json("agents") if each["name"] == program.name)
    assert agent["login"]["ready"] is not False
    assert agent["version"] == install.version(program.name)
    show("merged")


def test_where_nobody_listens_its_agent_is_parked(
    scene: Scene, program: Program, show: Show
) -> None:
    with nobody() as url:
        scene.add(program, url, **deadline(program, NOTHING))
        scene.play()
        parked_and_uncounted(scene, program, NOTHING)
    show(f"`{program.shows(NOTHING).outcome}`", NOTHING)


def test_a_key_that_is_refused_parks_its_agent(scene: Scene, program: Program, show: Show) -> None:
    with model(program, Case.UNAUTHORIZED) as server:
        scene.add(program, server.url, **deadline(program, Case.UNAUTHORIZED))
        scene.play()
        parked_and_uncounted(scene, program, Case.UNAUTHORIZED)
    assert "could not log in" in scene.bed.cli("list")
    show(f"`{program.shows(Case.UNAUTHORIZED).outcome}`", Case.UNAUTHORIZED)


def test_a_used_up_quota_parks_its_agent_beyond_a_restart(
    scene: Scene, program: Program, show: Show
) -> None:
    """Until the time that was told; a person's `resume` lets it try at once."""
    back = int(time.time()) + 2 * 3600
    with model(program, Case.QUOTA, resets_at=back) as server:
        scene.add(program, server.url, **deadline(program, Case.QUOTA))
        scene.play()
        until = parked_and_uncounted(scene, program, Case.QUOTA)
        assert -5 <= seconds(until) - back <= 65  # some tell it to the minute

        scene.bed.kill()
        scene.bed.start()
        assert f"parked      {program.name} until {until}" in scene.bed.cli("status")
        assert len(scene.attempts) == 1

        server.script = program.script("hello.txt")
        scene.bed.cli("resume")
        scene.bed.wait_for(ITEM, *ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert scene.parked == {}
    show(f"`{program.shows(Case.QUOTA).outcome}`, until the time told", Case.QUOTA)


def test_a_burst_of_requests_costs_it_no_attempt(
    scene: Scene, program: Program, show: Show
) -> None:
    with model(program, Case.RATE_LIMITED) as server:
        scene.add(program, server.url)
        scene.play(ends=ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    (attempt,) = scene.attempts
    assert attempt.outcome == AgentOutcome.OK
    show("merged")


def test_an_answer_that_breaks_off_is_no_work(scene: Scene, program: Program, show: Show) -> None:
    """Not even where a file was written before: it is tried again, and nothing is merged."""
    after = 0 if program.edits_by_text else 1
    with model(program, Case.BROKEN, after=after) as server:
        scene.add(program, server.url, **deadline(program, Case.BROKEN) | {"retries": 1})
        scene.play(ends=ENDED)
        assert scene.task.state == State.FAILED, scene.task.reason
        shows = program.shows(Case.BROKEN)
        shown = {(each.outcome, each.ending) for each in scene.attempts}
        assert shown == {(shows.outcome, shows.ending)}
        assert len(scene.attempts) == 2
    assert scene.bed.landed_task_ids() == []
    show(f"`{program.shows(Case.BROKEN).outcome}`", Case.BROKEN)


def test_an_endless_answer_ends_at_the_deadline_with_all_processes(
    scene: Scene, program: Program, show: Show
) -> None:
    shows = program.shows(Case.ENDLESS)
    with model(program, Case.ENDLESS) as server:
        scene.add(program, server.url, **deadline(program, Case.ENDLESS))
        scene.play(ends=ENDED)
        assert server.requests, "it has asked nothing before its deadline"
        assert scene.processes() == []
    (attempt,) = scene.attempts
    assert (attempt.outcome, attempt.ending) == (shows.outcome, shows.ending), attempt
    assert scene.task.state == State.FAILED
    show(f"`{program.shows(Case.ENDLESS).outcome}`", Case.ENDLESS)


def test_a_revision_goes_on_with_its_conversation_or_with_the_evidence(
    scene: Scene, program: Program, show: Show
) -> None:
    revisions: list[Request] = []

    def notice(request: Request) -> None:
        if request.holds("This is a revision"):
            revisions.append(request)
            server.script = program.script("again.txt", earlier="hello.txt")

    with model(program, Case.OK, on_request=notice) as server:
        scene.add(program, server.url)
        scene.play("test ! -e hello.txt || test -e again.txt", ends=ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert scene.task.revision_round == 1
    assert scene.bed.base_file("hello.txt") == "hello"
    assert scene.bed.base_file("again.txt") == "hello"
    first, second = scene.attempts
    assert revisions[0].holds("goes on, in the same worktree") == program.resumes
    assert revisions[0].holds(ITEM)
    if program.resumes:
        assert first.session == second.session != ""
    else:
        assert (scene.bed.folder(ITEM) / ".agent" / "discovery").is_dir()
    show("session resumed" if program.resumes else "afresh, with the evidence")


@pytest.mark.parametrize(
    "program",
    [
        each
        for each in chosen()
        if each.name not in IN_THE_GATE[1:] and not each.edits_by_text  # that asks only once
    ],
    ids=lambda program: program.name,
    indirect=True,
)
def test_a_budget_that_is_reached_ends_it_while_it_works(scene: Scene, program: Program) -> None:
    """At its second request at the latest: each tells of its tokens before it ends."""
    script = Script(commands=("sleep 1; true", "sleep 1; sleep 200", "echo too late"))
    with ModelServer(script) as server:
        scene.add(program, server.url, max_tokens=1000)
        scene.play(ends=ENDED)
        assert scene.processes() == []
    (attempt,) = scene.attempts
    assert attempt.ending == Ending.BUDGET, attempt
    assert (attempt.input_tokens or 0) >= script.usage.input
    assert len(server.requests) <= 3  # opencode and others may ask for a title


@pytest.mark.parametrize(
    "program",
    [each for each in chosen() if each.name not in IN_THE_GATE[1:]],  # one is enough there
    ids=lambda program: program.name,
    indirect=True,
)
def test_agents_test_says_that_it_works(scene: Scene, program: Program) -> None:
    with model(program, Case.OK) as server:
        scene.add(program, server.url)
        scene.configure()
        said = scene.bed.cli("agents", "test", program.name)
    assert said.startswith(f"{program.name} works"), said


def test_where_one_has_no_quota_left_another_takes_over(scene: Scene) -> None:
    first, second = (installed(each) for each in PROGRAMS[:2])
    back = int(time.time()) + 2 * 3600
    with model(first, Case.QUOTA, resets_at=back) as empty, model(second, Case.OK) as full:
        scene.add(first, empty.url, fallback=second.name)
        scene.add(second, full.url)
        scene.play(ends=ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert [(each.agent, each.outcome) for each in scene.attempts] == [
        (first.name, AgentOutcome.QUOTA),
        (second.name, AgentOutcome.OK),
    ]
    assert list(scene.parked) == [first.name]
    assert scene.task.failures == 0
