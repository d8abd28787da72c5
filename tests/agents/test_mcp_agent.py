"""codex through its own MCP server, and servers that are not what was hoped for; in a daemon."""

import sys
from pathlib import Path
from typing import Any

import install
import pytest
from agent_bed import ITEM, Scene
from bed import Bed
from model_server.script import Case, Script
from model_server.server import ModelServer, Request
from programs import CODEX_SETTINGS, KEY

from alluvium_like.config.hosts import host_of
from alluvium_like.lifecycle import AgentOutcome, Ending, Outcome, State

pytestmark = pytest.mark.timeout(300)

KEY_NAME = "SCRIPTED_KEY"
ENDED = (State.DONE, State.FAILED, State.NEEDS_HUMAN)
WRITES = Script(commands=("echo hello > hello.txt",))
SERVER = Path(__file__).with_name("mcp_server.py")


@pytest.fixture
def scene(bed: Bed) -> Scene:
    bed.environment[KEY_NAME] = KEY
    scene = Scene(bed)
    bed.patience = 25.0
    return scene


def codex(scene: Scene, url: str, **more: object) -> None:
    """Add codex as a tool of its server."""
    program = install.program("codex-mcp")
    if program is None:
        pytest.skip("codex-mcp is not there: python tests/agents/install.py codex-mcp")
    home, scratch = scene.bed.home / "codex", scene.bed.home / "scratch"
    home.mkdir()
    scratch.mkdir()
    (home / "config.toml").write_text(CODEX_SETTINGS.replace("@URL@", url))
    told: dict[str, Any] = {
        "preset": "mcp",
        "command": [str(program), "mcp-server"],
        "tool": "codex",
        "model": "model",
        # Its sandbox needs a home that is not below the folder for temporary files.
        "env": [KEY_NAME, f"CODEX_HOME={home}", f"TMPDIR={scratch}"],
        "timeout_seconds": 120,
        # A server is not known: what it needs in its box has to be named.
        "writable": [str(home), str(scratch)],
        "hosts": [host_of(url)],
    }
    scene.add_table("codex", told | more)


def small(scene: Scene, tool: str, **more: object) -> None:
    """Add a tool of a small server of our own."""
    told = {"preset": "mcp", "command": [sys.executable, str(SERVER)], "tool": tool}
    scene.add_table("small", told | more)


def test_codex_as_a_tool_writes_what_is_merged_and_tells_what_it_does(scene: Scene) -> None:
    with ModelServer(WRITES) as server:
        codex(scene, server.url)
        scene.play(ends=ENDED)
        answers = len(server.requests)
        assert server.requests[0].holds(ITEM)
        assert server.requests[0].asked.model == "model"
        assert scene.processes() == []
    assert (scene.task.state, scene.task.outcome) == (State.DONE, Outcome.MERGED), scene.task.reason
    assert scene.bed.base_file("hello.txt") == "hello"
    (attempt,) = scene.attempts
    assert (attempt.input_tokens, attempt.output_tokens) == (answers * 1234, answers * 56)
    kinds = {told["kind"] for told in scene.transcript()}
    assert kinds >= {"session", "tool_call", "usage", "message", "end"}
    assert scene.told_the_key() == []


def test_a_key_that_codex_is_refused_with_parks_the_agent(scene: Scene) -> None:
    with ModelServer(Script(case=Case.UNAUTHORIZED)) as server:
        codex(scene, server.url)
        scene.play()
        assert scene.wait_until_parked("codex").outcome == AgentOutcome.AUTH
    assert scene.task.failures == 0


def test_a_revision_begins_codex_afresh_with_the_evidence(scene: Scene) -> None:
    def notice(request: Request) -> None:
        if request.holds("This is a revision"):
            server.script = Script(commands=("echo hello > again.txt",))

    with ModelServer(WRITES, on_request=notice) as server:
        codex(scene, server.url)
        scene.play("test ! -e hello.txt || test -e again.txt", ends=ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert scene.bed.base_file("again.txt") == "hello"
    assert [each.session for each in scene.attempts] == ["", ""]


def test_a_budget_that_is_reached_ends_codex_and_its_server(scene: Scene) -> None:
    with ModelServer(Script(commands=("true", "sleep 200"))) as server:
        codex(scene, server.url, max_tokens=1000)
        scene.play(ends=ENDED)
        assert scene.processes() == []
    (attempt,) = scene.attempts
    assert attempt.ending == Ending.BUDGET


def test_a_tool_gets_what_the_configuration_gives_it(scene: Scene) -> None:
    given = {"text": "{prompt}", "deep": [{"place": "{worktree}", "model": "{model}"}], "times": 2}
    small(scene, "write", tool_arguments=given, model="any")
    scene.play(ends=ENDED)
    assert scene.task.outcome == Outcome.MERGED, scene.task.reason
    assert "any" in scene.bed.base_file("given.txt")
    texts = [told.get("text", "") for told in scene.transcript()]
    assert "halfway" in texts
    assert "It is written." in texts
    assert scene.processes() == []


@pytest.mark.parametrize(
    ("tool", "reason"),
    [
        ("none", "the MCP server has no tool 'none'; it has: write, fail, leave, wait"),
        ("fail", "nothing works today"),
        ("leave", "Connection closed"),
    ],
)
def test_a_tool_that_does_not_work_fails_in_words(scene: Scene, tool: str, reason: str) -> None:
    small(scene, tool)
    scene.play(ends=ENDED)
    assert scene.task.state == State.FAILED
    assert reason in scene.task.reason
    assert len(scene.attempts) == 1


def test_a_server_that_never_answers_ends_at_the_deadline(scene: Scene) -> None:
    small(scene, "wait", timeout_seconds=5)
    scene.play(ends=ENDED)
    assert scene.processes() == []
    assert [each.ending for each in scene.attempts] == [Ending.TIMED_OUT]


def test_a_program_that_is_no_server_fails_in_words(scene: Scene) -> None:
    scene.add_table("none", {"preset": "mcp", "command": ["true", "mcp-server"], "tool": "codex"})
    scene.play(ends=ENDED)
    assert "the MCP server ended before it was ready" in scene.task.reason
    assert "codex has had no mcp-server since 0.154" in scene.task.reason


def test_agents_and_doctor_look_for_the_server_and_agents_test_calls_it(scene: Scene) -> None:
    with ModelServer(WRITES) as server:
        codex(scene, server.url)
        scene.add_table("gone", {"preset": "mcp", "command": ["no-such-server"], "tool": "x"})
        scene.configure()
        agents = scene.bed.json("agents")
        listed = {each["name"]: each for each in agents if each["configured"]}
        assert listed["codex"]["path"] == str(install.program("codex-mcp"))
        assert (listed["codex"]["login"]["ready"], listed["gone"]["path"]) == (None, "")
        doctor = scene.bed.run("-C", str(scene.bed.root), "doctor").stdout
        assert "no-such-server is not a program on PATH" in doctor
        said = scene.bed.cli("agents", "test", "codex")
    assert said.startswith("codex works"), said
