"""The agent that asks a model once, in a real daemon, against a model that plays a script."""

import subprocess
import time
from typing import Any

import pytest
from agent_bed import ITEM, Scene, nobody
from bed import Bed
from model_server.script import Case, Script
from model_server.server import ModelServer, Request
from programs import KEY

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Call
from alluvium_like.config.agents import Profile
from alluvium_like.lifecycle import AgentOutcome, Outcome, State

pytestmark = pytest.mark.timeout(120)

KEY_NAME = "SCRIPTED_KEY"
ENDED = (State.DONE, State.FAILED, State.NEEDS_HUMAN)
DIFF = """\
--- /dev/null
+++ b/hello.txt
@@ -0,0 +1 @@
+hello
"""
TESTS = "test ! -e hello.txt || test -e again.txt"
AGAIN = DIFF.replace("hello.txt", "again.txt")
PRICES = {"model": {"input": 1.0, "output": 10.0}}


def answer(diff: str = DIFF) -> str:
    return f"I wrote hello.txt.\n\n```diff\n{diff}```\n\nNothing is left open.\n"


def table(url: str, **more: object) -> dict[str, Any]:
    told = {"base_url": f"{url}/v1", "key": KEY_NAME, "models": ["model", "other"]}
    return {"preset": "chat", **told, **more}


@pytest.fixture
def scene(bed: Bed) -> Scene:
    scene = Scene(bed)
    bed.environment[KEY_NAME] = KEY
    bed.patience = 60.0
    return scene


def kept_answer(scene: Scene) -> str:
    return (scene.bed.folder(ITEM) / ".agent/outputs/answer.md").read_text()


def question(scene: Scene) -> str:
    return (scene.bed.folder(ITEM) / ".agent/needs_human.md").read_text()


def test_its_diff_is_merged_its_answer_kept_and_its_key_nowhere(scene: Scene) -> None:
    with ModelServer(Script(text=answer())) as server:
        scene.add_table("chat", table(server.url))
        scene.tables["prices"] = PRICES
        scene.configure()
        (scene.bed.repo / "notes.md").write_text("what is known\n")
        scene.bed.git("add", "notes.md")
        scene.bed.git("commit", "-qm", "Notes")
        scene.bed.start()
        scene.bed.drop(ITEM, "See notes.md and write hello.txt.")
        scene.bed.wait_for(ITEM, *ENDED)
        (request,) = server.requests
    assert (scene.task.state, scene.task.outcome) == (State.DONE, Outcome.MERGED), scene.task.reason
    assert scene.bed.base_file("hello.txt") == "hello"
    assert kept_answer(scene) == answer()

    assert (request.path, request.key) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert request.asked.model == "model"
    assert (request.asked.stream, request.asked.max_tokens) == (False, None)
    assert request.holds("See notes.md and write hello.txt.")
    assert request.holds("what is known")
    assert scene.told_the_key() == []

    (attempt,) = scene.attempts
    assert (attempt.input_tokens, attempt.output_tokens) == (1234, 56)
    assert attempt.cost == pytest.approx((1234 * 1 + 56 * 10) / 1e6)
    kinds = [told["kind"] for told in scene.transcript()]
    assert kinds == ["usage", "message", "file_change", "end"]


def test_an_answer_without_a_diff_is_kept_and_nothing_lands(scene: Scene) -> None:
    with ModelServer(Script(text="It is 42.")) as server:
        scene.add_table("chat", table(server.url))
        scene.play(ends=ENDED)
    assert (scene.task.state, scene.task.outcome) == (State.DONE, Outcome.NOOP)
    assert kept_answer(scene) == "It is 42.\n"


def test_a_diff_that_does_not_apply_fails_in_words_and_the_answer_is_kept(scene: Scene) -> None:
    diff = "--- a/none.txt\n+++ b/none.txt\n@@ -1 +1 @@\n-one\n+two\n"
    with ModelServer(Script(text=answer(diff))) as server:
        scene.add_table("chat", table(server.url))
        scene.play(ends=ENDED)
        assert len(server.requests) == 1
    assert scene.task.state == State.FAILED
    assert "the diff of the answer does not apply: error: none.txt" in scene.task.reason
    assert kept_answer(scene) == answer(diff)
    assert scene.bed.landed_task_ids() == []


def test_a_question_of_the_model_is_put_to_a_person(scene: Scene) -> None:
    with ModelServer(Script(text="NEEDS HUMAN: Which of the two?")) as server:
        scene.add_table("chat", table(server.url))
        scene.play(ends=ENDED)
    assert scene.task.state == State.NEEDS_HUMAN
    assert question(scene) == "Which of the two?"


def test_without_a_key_a_person_is_told_what_to_set_and_nothing_is_tried_again(
    scene: Scene,
) -> None:
    del scene.bed.environment[KEY_NAME]
    with ModelServer(Script(text=answer())) as server:
        scene.add_table("chat", table(server.url, retries=3))
        scene.play(ends=ENDED)
        assert scene.task.state == State.NEEDS_HUMAN, scene.task.reason
        assert f"Set {KEY_NAME} where the daemon is started" in question(scene)
        assert server.requests == []
        assert (len(scene.attempts), scene.parked) == (1, {})
        hint = f"set {KEY_NAME} where the daemon is started"
        assert f"cannot log in: {hint}" in scene.bed.cli("agents")
        assert hint in scene.bed.run("-C", str(scene.bed.root), "doctor").stdout

        scene.bed.stop()
        scene.bed.environment[KEY_NAME] = KEY
        scene.bed.start()
        scene.bed.cli("answer", scene.task.id, "It is set.")
        scene.bed.wait_for(ITEM, State.DONE, State.FAILED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason


def test_a_model_that_is_not_allowed_is_not_asked(scene: Scene) -> None:
    """Whoever named it: the list is looked at once more right before the request."""
    with ModelServer(Script(text=answer())) as server:
        scene.add_table("chat", table(server.url))
        scene.configure()
        adapter = ADAPTERS["chat"].of(Profile.model_validate(table(server.url)))
        call = Call(scene.bed.repo, "x", scene.bed.home / "prompt", scene.bed.home, model="dear")
        for name in ("input", "agent"):
            (scene.bed.home / name).mkdir()
        told = {
            "ALLUVIUM_TASK_DIR": str(scene.bed.home),
            "ALLUVIUM_AGENT_DIR": str(scene.bed.home / "agent"),
            "ALLUVIUM_WORKTREE": str(scene.bed.repo),
        }
        argv = [*adapter.program_line(call), *adapter.invoke(call).arguments]
        environment = scene.bed.environment | told
        done = subprocess.run(argv, env=environment, capture_output=True, input=b"x", check=True)
        assert server.requests == []
    assert b'"ok": true' in done.stdout
    asked = (scene.bed.home / "agent/needs_human.md").read_text()
    assert "the model 'dear' is not allowed; 'models' names model, other" in asked


def test_a_request_is_limited_to_what_it_may_cost(scene: Scene) -> None:
    with ModelServer(Script(text=answer())) as server:
        budgets = {"min_budget": 0.05, "max_budget": 0.15, "intensity": "medium"}
        scene.add_table("chat", table(server.url, models=["model"], **budgets))
        scene.tables["prices"] = PRICES
        scene.play(ends=ENDED)
        (request,) = server.requests
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    most = request.asked.max_tokens
    assert most is not None
    size = sum(len(each["content"].encode()) for each in request.body["messages"])
    assert (size / 3 * 1 + most * 10) / 1e6 == pytest.approx(0.10, rel=0.001)


def test_a_request_that_would_cost_too_much_is_not_made(scene: Scene) -> None:
    with ModelServer(Script(text=answer())) as server:
        scene.add_table("chat", table(server.url, models=["model"], max_budget=0.001))
        scene.tables["prices"] = PRICES
        scene.play(ends=ENDED)
        assert server.requests == []
    assert scene.task.state == State.NEEDS_HUMAN
    assert "Raise 'max_budget' or 'intensity'" in question(scene)
    assert len(scene.attempts) == 1


def test_a_budget_that_is_reached_allows_no_further_request(scene: Scene) -> None:
    with ModelServer(Script(text=answer())) as server:
        scene.add_table("chat", table(server.url, max_tokens=1000))
        scene.play(TESTS, ends=ENDED)
        assert len(server.requests) == 1
    assert scene.task.state == State.NEEDS_HUMAN
    assert scene.bed.landed_task_ids() == []


def test_a_revision_is_told_why_and_builds_on_the_first_answer(scene: Scene) -> None:
    def notice(request: Request) -> None:
        if request.holds("Why the work came back"):
            assert request.holds("### `hello.txt`")
            server.script = Script(text=answer(AGAIN))

    with ModelServer(Script(text=answer()), on_request=notice) as server:
        scene.add_table("chat", table(server.url))
        scene.play(TESTS, ends=ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert scene.bed.base_file("hello.txt") == scene.bed.base_file("again.txt") == "hello"


def test_a_conflict_is_answered_anew_on_the_new_base(scene: Scene) -> None:
    """What the owner wrote meanwhile is shown, with the change that no longer fits."""
    bed = scene.bed

    def owner(request: Request) -> None:
        if not request.holds("Why the work came back"):
            (bed.repo / "hello.txt").write_text("owner\n")
            bed.git("add", "hello.txt")
            bed.git("commit", "-qm", "The owner's")
            return
        assert request.holds("Your earlier change")
        assert request.holds("+hello")
        assert request.holds("```\nowner\n```")
        both = "--- a/hello.txt\n+++ b/hello.txt\n@@ -1 +1,9 @@\n owner\n+hello\n"  # 9 is wrong
        server.script = Script(text=answer(both))

    with ModelServer(Script(text=answer()), on_request=owner) as server:
        scene.add_table("chat", table(server.url))
        scene.play(ends=ENDED)
        assert len(server.requests) == 2
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert bed.base_file("hello.txt") == "owner\nhello"


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        (Case.UNAUTHORIZED, AgentOutcome.AUTH),
        (Case.QUOTA, AgentOutcome.QUOTA),
        (Case.SERVER_ERROR, AgentOutcome.UNREACHABLE),
    ],
)
def test_trouble_of_the_service_parks_the_agent_and_counts_against_nothing(
    scene: Scene, case: Case, outcome: AgentOutcome
) -> None:
    with ModelServer(Script(case=case, resets_at=int(time.time()) + 7200)) as server:
        scene.add_table("chat", table(server.url))
        scene.play()
        assert scene.wait_until_parked("chat").outcome == outcome
        assert len(server.requests) == 1
    assert scene.task.failures == 0


def test_where_nobody_listens_the_agent_is_parked(scene: Scene) -> None:
    with nobody() as url:
        scene.add_table("chat", table(url))
        scene.play()
        assert scene.wait_until_parked("chat").outcome == AgentOutcome.UNREACHABLE


def test_agents_test_says_that_it_works(scene: Scene) -> None:
    with ModelServer(Script(text=answer())) as server:
        scene.add_table("chat", table(server.url))
        scene.configure()
        said = scene.bed.cli("agents", "test", "chat")
    assert said.startswith("chat works"), said
    assert "written and committed: Apply the answer of model" in said


def test_an_answer_that_breaks_off_is_no_work_and_a_refusal_asks_a_person(scene: Scene) -> None:
    with ModelServer(Script(case=Case.BROKEN, text=answer())) as server:
        scene.add_table("chat", table(server.url, retries=1))
        scene.play(ends=ENDED)
        assert scene.task.state == State.FAILED
        assert [each.outcome for each in scene.attempts] == [AgentOutcome.CRASHED] * 2
        server.script = Script(case=Case.REFUSED)
        scene.bed.cli("retry", scene.task.id)
        scene.bed.wait_for(ITEM, State.NEEDS_HUMAN)
    assert scene.bed.landed_task_ids() == []
