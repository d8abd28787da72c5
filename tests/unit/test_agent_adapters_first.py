"""Streams of codex, claude, pi and mini-swe-agent, as they really were, end as what they were.

A line of a stream that begins with "! " was printed on stderr. A trajectory of mini-swe-agent lies
beside it.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from alluvium_like.agents import complaints
from alluvium_like.agents.adapters import ADAPTERS, claude
from alluvium_like.agents.adapters.base import Call
from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import Judged, judge_run
from alluvium_like.agents.record import Record
from alluvium_like.lifecycle import AgentOutcome, Ending

STREAMS = Path(__file__).parent / "streams"
NOW = 1_795_285_000.0
NONE = (0, 0, 0)
ONE, TWO, THREE = (1234, 200, 56), (2468, 400, 112), (3702, 600, 168)  # requests
WORK = "usage tool_call "

CASES = [
    # program, stream, exit (None: our signal), outcome, tokens, kinds of events
    ("codex", "ok", 0, "ok", THREE, "session tool_call message usage end"),
    ("codex", "rate-two", 0, "ok", THREE, "session limit tool_call tool_call message usage end"),
    ("codex", "late", 1, "crashed", NONE, "session tool_call error end"),
    ("codex", "broken", 1, "crashed", NONE, "session error end"),
    ("codex", "nothing", 1, "unreachable", NONE, "session error end"),
    ("codex", "nothing-defaults", None, "unreachable", NONE, "session error"),
    ("codex", "lookup", None, "unreachable", NONE, "session error"),
    ("codex", "server_error", 1, "unreachable", NONE, "session error end"),
    ("codex", "unauthorized", 1, "auth", NONE, "session error end"),
    ("codex", "unauthorized-default", 1, "auth", NONE, "session error error error end"),
    ("codex", "unauthorized-nokey", 1, "auth", NONE, "session error end"),
    ("codex", "burst", 1, "quota", NONE, "session limit end"),
    ("codex", "quota", 1, "quota", NONE, "session limit end"),
    ("codex", "quota-far", 1, "quota", NONE, "session limit end"),
    ("codex", "credit", 1, "quota", NONE, "session limit end"),
    ("codex", "context", 1, "context", NONE, "session error end"),
    ("codex", "refused", 1, "refused", NONE, "session message error end"),
    ("codex", "endless", None, "timed_out", NONE, "session"),
    ("claude", "ok-partial", 0, "ok", THREE,
     "session usage tool_call usage usage tool_call usage usage message usage usage end"),
    ("claude", "resume", 0, "ok", THREE, "session tool_call tool_call message usage end"),
    ("claude", "rate", 0, "ok", THREE, "session limit tool_call tool_call message usage end"),
    ("claude", "late", 1, "crashed", ONE, "session tool_call usage error end"),
    ("claude", "broken", 1, "crashed", NONE, "session error end"),
    ("claude", "nothing", 1, "unreachable", NONE, "session error error end"),
    ("claude", "nothing-defaults", None, "unreachable", NONE, "session error"),
    ("claude", "server_error", 1, "unreachable", NONE, "session error error end"),
    ("claude", "unauthorized", 1, "auth", NONE, "session error end"),
    ("claude", "unauthorized-nokey", 1, "auth", NONE, "session error end"),
    ("claude", "burst", 1, "quota", NONE, "session limit limit end"),
    ("claude", "burst-oauth", 1, "quota", NONE, "session limit end"),
    ("claude", "quota", 1, "quota", NONE, "session limit end"),
    ("claude", "quota-oauth", 1, "quota", NONE, "session limit limit end"),
    ("claude", "credit", 1, "quota", NONE, "session limit end"),
    ("claude", "context", 1, "context", NONE, "session error end"),
    ("claude", "refused", 1, "refused", ONE, "session message error usage error end"),
    ("claude", "endless-partial", None, "timed_out", (1234, 200, 0), "session usage"),
    ("claude", "term", None, "timed_out", NONE, "session tool_call"),
    ("claude", "resume-move", 1, "crashed", NONE, "error end"),
    ("pi", "ok", 0, "ok", THREE, f"session {WORK}{WORK}usage message end"),
    ("pi", "ok-anthropic", 0, "ok", THREE, f"session {WORK}{WORK}usage message end"),
    ("pi", "resume", 0, "ok", THREE, f"session {WORK}{WORK}usage message end"),
    ("pi", "rate", 0, "ok", THREE, f"session limit {WORK}{WORK}usage message end"),
    ("pi", "late", 0, "crashed", ONE, f"session {WORK}error end"),
    ("pi", "broken", 0, "crashed", NONE, "session error end"),
    ("pi", "nothing", 0, "unreachable", NONE, "session error end"),
    ("pi", "server_error", 0, "unreachable", NONE, "session error end"),
    ("pi", "unauthorized", 0, "auth", NONE, "session error end"),
    ("pi", "no_key", 1, "auth", NONE, "error session"),
    ("pi", "burst", 0, "quota", NONE, "session limit end"),
    ("pi", "quota", 0, "quota", NONE, "session limit limit end"),
    ("pi", "credit", 0, "quota", NONE, "session limit end"),
    ("pi", "context", 0, "context", NONE, "session error"),
    ("pi", "refused", 0, "refused", ONE, "session usage message error end"),
    ("pi", "endless", None, "timed_out", NONE, "session"),
    ("pi", "term", None, "timed_out", ONE, "session usage tool_call"),
    ("pi", "resume-move", 1, "crashed", NONE, ""),
    ("mini-swe-agent", "ok", 0, "ok", THREE, f"{WORK}{WORK}{WORK}end"),
    ("mini-swe-agent", "rate-three", 0, "ok", THREE, f"limit {WORK}{WORK}{WORK}end"),
    ("mini-swe-agent", "late", 1, "unreachable", ONE, f"{WORK}error end"),
    ("mini-swe-agent", "nothing", 1, "unreachable", NONE, "error end"),
    ("mini-swe-agent", "nothing-defaults", None, "unreachable", NONE, "error"),
    ("mini-swe-agent", "server_error", 1, "unreachable", NONE, "error end"),
    ("mini-swe-agent", "unauthorized", 1, "auth", NONE, "error end"),
    ("mini-swe-agent", "burst", 1, "quota", NONE, "limit end"),
    ("mini-swe-agent", "quota", 1, "quota", NONE, "limit end"),
    ("mini-swe-agent", "credit", 1, "quota", NONE, "limit end"),
    ("mini-swe-agent", "context", 1, "context", NONE, "error end"),
    ("mini-swe-agent", "refused", 0, "refused", THREE,
     "usage message error usage message error usage message error error end"),
    ("mini-swe-agent", "endless", None, "timed_out", NONE, ""),
]  # fmt: skip
BURSTS = {
    ("codex", "burst"): None,
    ("claude", "burst"): None,
    ("claude", "burst-oauth"): None,
    ("pi", "burst"): NOW + 2,
    ("mini-swe-agent", "burst"): NOW + 2,
}
QUOTAS = {
    ("codex", "credit"): None,
    ("claude", "quota"): None,
    ("claude", "quota-oauth"): 1_795_289_008.0,
    ("claude", "credit"): None,
    ("pi", "quota"): NOW + 3594,
    ("pi", "credit"): None,
    ("mini-swe-agent", "quota"): NOW + 3582,
    ("mini-swe-agent", "credit"): None,
}


@dataclass(frozen=True)
class Told:
    """What a run came to: how it was judged, and what was noted of it."""

    judged: Judged
    record: Record
    kinds: str


@pytest.fixture
def call(tmp_path: Path) -> Call:
    agent_dir = tmp_path / "task" / ".agent"
    agent_dir.mkdir(parents=True)
    prompt = 'Say "hello" \\ to 日本 😀\x7f\n'
    return Call(tmp_path / "tree", prompt, agent_dir / "prompt.md", agent_dir / "sessions")


@pytest.fixture
def run(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """Return what reads a stream as that of a run with this exit; what is on stderr comes first."""
    for module in (complaints, claude):
        monkeypatch.setattr(module, "time_of_day", lambda: NOW)

    def run(program: str, lines: Iterable[str], code: int | None, call: Call = call) -> Told:
        adapter = ADAPTERS[program]
        transcript = tmp_path / "transcript.jsonl"
        record = Record(adapter.reader(call), transcript, lambda usage: None)
        for line in sorted(lines, key=lambda line: not line.startswith("! ")):
            error = line.startswith("! ")
            record.take_line(line.removeprefix("! ").encode(), error=error)
        record.finish()
        ending = Ending.TIMED_OUT if code is None else Ending.EXITED
        judged = judge_run(ending, code, record, needs_end=adapter.needs_end)
        told = transcript.read_text().splitlines() if transcript.exists() else []
        return Told(judged, record, " ".join(json.loads(line)["kind"] for line in told))

    return run


def stream(program: str, case: str, call: Call) -> list[str]:
    """Return the lines of a stream; a trajectory that belongs to it is put where it is read."""
    trajectory = STREAMS / program / f"{case}.json"
    if trajectory.exists():
        call.home.mkdir(exist_ok=True)
        shutil.copy(trajectory, call.home / "trajectory.json")
    return (STREAMS / program / f"{case}.txt").read_text().splitlines()


@pytest.mark.parametrize(("program", "case", "code", "outcome", "tokens", "kinds"), CASES)
def test_a_stream_ends_as_what_it_was(
    run: Callable[..., Told],
    call: Call,
    program: str,
    case: str,
    code: int | None,
    outcome: str,
    tokens: tuple[int, int, int],
    kinds: str,
) -> None:
    told = run(program, stream(program, case, call), code)
    usage = told.record.usage
    assert told.judged.outcome == AgentOutcome(outcome), told.judged
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == tokens
    assert told.kinds == kinds
    assert bool(told.record.session) == ("session" in kinds)
    assert told.judged.burst == ((program, case) in BURSTS)


def test_every_stream_that_was_recorded_of_these_is_read() -> None:
    for program in ("codex", "claude", "pi", "mini-swe-agent"):
        there = {file.stem for file in (STREAMS / program).iterdir()}
        read = {case for name, case, *_ in CASES if name == program}
        assert there - read <= {"resume", "term"}, program


@pytest.mark.parametrize(
    ("program", "case", "resets_at"), [(*name, at) for name, at in (BURSTS | QUOTAS).items()]
)
def test_a_limit_tells_when_it_ends(
    run: Callable[..., Told], call: Call, program: str, case: str, resets_at: float | None
) -> None:
    assert run(program, stream(program, case, call), 1).judged.resets_at == resets_at


def test_codex_tells_the_end_of_a_quota_as_a_clock(run: Callable[..., Told], call: Call) -> None:
    far = run("codex", stream("codex", "quota-far", call), 1).judged.resets_at
    assert far == datetime(2026, 11, 25, 18, 23).astimezone().timestamp()
    near = run("codex", stream("codex", "quota", call), 1).judged.resets_at
    assert near is not None
    assert near - NOW <= 24 * 3600
    assert f"{datetime.fromtimestamp(near):%H:%M:%S}" == "19:30:59"


def test_codex_counts_what_was_told_before_a_resume_only_once(
    run: Callable[..., Told], call: Call
) -> None:
    resumed = replace(call, session="01a1ff4b", told=Usage(3702, 600, 168))
    told = run("codex", stream("codex", "resume", call), 0, resumed)
    assert told.judged.outcome is AgentOutcome.OK
    assert told.record.usage == Usage(3702, 600, 168, total=True)


def test_codex_tells_what_it_uses_before_its_turn_ends(
    run: Callable[..., Told], call: Call, tmp_path: Path
) -> None:
    lines = stream("codex", "late", call)
    thread = json.loads(lines[0])["thread_id"]
    day = tmp_path / "sessions/2026/11/21"
    day.mkdir(parents=True)
    told_by_codex = [
        {"type": "turn_context", "payload": {"model": "gpt-x", "cwd": "/"}},
        {"type": "event_msg", "payload": {"type": "token_count", "info": None}},
        {"type": "event_msg", "payload": {"type": "token_count", "info": {"total_token_usage": {
            "input_tokens": 2468, "cached_input_tokens": 400, "output_tokens": 112}}}},
    ]  # fmt: skip
    file = day / f"rollout-2026-11-21T18-12-24-{thread}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in told_by_codex) + '{"half')
    resumed = replace(call, environment={"CODEX_HOME": str(tmp_path)}, told=Usage(1234, 200, 56))
    told = run("codex", lines, 1, resumed)
    assert told.record.usage == Usage(1234, 200, 56, model="gpt-x", total=True)
    assert told.kinds == "session usage tool_call error end"
    assert told.judged.outcome is AgentOutcome.CRASHED


def test_claude_tells_its_model_and_what_it_cost(run: Callable[..., Told], call: Call) -> None:
    usage = run("claude", stream("claude", "ok-partial", call), 0).record.usage
    assert usage.model == "claude-opus-4-8"
    assert usage.cost == pytest.approx(0.02001)


WORDS = "HTTP 429 Too Many Requests: usage limit reached, 401 invalid api key, ECONNREFUSED"
SAID = {
    "codex": [
        {"type": "thread.started", "thread_id": "t"},
        {"type": "item.completed", "item": {"id": "0", "type": "error", "message": WORDS}},
        {"type": "item.completed", "item": {"id": "1", "type": "command_execution",
         "command": f"echo '{WORDS}'", "aggregated_output": WORDS, "exit_code": 1}},
        {"type": "item.completed", "item": {"id": "2", "type": "agent_message", "text": WORDS}},
        {"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 1}},
    ],
    "claude": [
        {"type": "system", "subtype": "init", "session_id": "s"},
        {"type": "assistant", "message": {"role": "assistant", "content": [
            {"type": "tool_use", "id": "1", "name": "Bash", "input": {"command": WORDS}}]}},
        {"type": "user", "message": {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": WORDS, "is_error": True}]}},
        {"type": "assistant", "message": {"role": "assistant", "content": [
            {"type": "text", "text": WORDS}]}},
        {"type": "result", "subtype": "success", "is_error": False, "result": WORDS,
         "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}},
    ],
    "pi": [
        {"type": "session", "id": "s"},
        {"type": "tool_execution_start", "toolCallId": "1", "toolName": "bash",
         "args": {"command": WORDS}},
        {"type": "tool_execution_end", "toolCallId": "1", "toolName": "bash",
         "result": {"content": [{"type": "text", "text": WORDS}]}, "isError": True},
        {"type": "message_end", "message": {"role": "toolResult", "isError": True,
         "content": [{"type": "text", "text": WORDS}], "errorMessage": WORDS}},
        {"type": "message_end", "message": {"role": "assistant", "stopReason": "stop",
         "content": [{"type": "text", "text": WORDS}]}},
        {"type": "turn_end", "message": {"role": "assistant", "stopReason": "stop"}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("program", SAID)
def test_what_a_model_or_a_tool_says_is_no_complaint(
    run: Callable[..., Told], program: str
) -> None:
    told = run(program, [json.dumps(line) for line in SAID[program]], 0)
    assert told.judged == Judged(AgentOutcome.OK)
    assert told.kinds.replace("usage ", "") == "session tool_call message end"


def test_mini_is_not_believed_what_it_prints(run: Callable[..., Told], call: Call) -> None:
    printed = [*WORDS.split(": "), "Submitted", "Traceback: RateLimitError: 429"]
    assert run("mini-swe-agent", printed, 0).judged.outcome is AgentOutcome.CRASHED
    lines = stream("mini-swe-agent", "ok", call)
    assert run("mini-swe-agent", lines + printed, 0).judged.outcome is AgentOutcome.OK


def test_mini_s_old_trajectory_is_gone_before_the_next_run(
    run: Callable[..., Told], call: Call
) -> None:
    stream("mini-swe-agent", "ok", call)
    ADAPTERS["mini-swe-agent"].invoke(call)
    assert run("mini-swe-agent", [], 0).judged.outcome is AgentOutcome.CRASHED


def test_mini_s_files_are_not_written_or_read_through_links(
    run: Callable[..., Told], call: Call, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    call.home.mkdir()
    for name in ("mini.yaml", "trajectory.json"):
        (call.home / name).symlink_to(outside)
    ADAPTERS["mini-swe-agent"].invoke(call)
    assert not outside.exists()
    (call.home / "trajectory.json").unlink()
    (call.home / "trajectory.json").symlink_to(STREAMS / "mini-swe-agent" / "ok.json")
    assert run("mini-swe-agent", [], 0).judged.outcome is AgentOutcome.CRASHED


def test_mini_is_given_the_prompt_in_a_file_that_any_yaml_reader_reads(call: Call) -> None:
    arguments = ADAPTERS["mini-swe-agent"].invoke(call).arguments
    text = Path(arguments[arguments.index("-o") - 1]).read_text()
    assert text.isascii()
    plain = text.replace("\\U0001f600", "😀").replace("\\U000065e5", "日")
    plain = plain.replace("\\U0000672c", "本").replace("\\U0000007f", "\x7f")
    assert json.loads(plain)["run"] == {"task": call.prompt}


def arguments_of(program: str, call: Call) -> str:
    home = str(call.home.parent)
    return " ".join(ADAPTERS[program].invoke(call).arguments).replace(home, "AGENT")


CODEX = (
    '--json --skip-git-repo-check -c features.unbounded_connection_retries=false'
    ' -c analytics.enabled=false -c check_for_update_on_startup=false'
    ' -c sandbox_mode="workspace-write"'
    ' -c sandbox_workspace_write.writable_roots=["AGENT"]'
)  # fmt: skip
CLAUDE = (
    "-p --output-format stream-json --verbose --include-partial-messages"
    " --permission-mode bypassPermissions"
)


@pytest.mark.parametrize(("program", "fresh", "resumed"), [
    ("codex", f"exec {CODEX} -m M --own -", f"exec resume {CODEX} -m M --own ID -"),
    ("claude", f"{CLAUDE} --model M --own", f"{CLAUDE} --model M --resume ID --own"),
    ("pi", "-p --mode json --session-dir AGENT/sessions --model M --own",
     "-p --mode json --session-dir AGENT/sessions --model M --session ID --own"),
    ("mini-swe-agent", "-y --exit-immediately -m M -c ../config/mini.yaml"
     " -c AGENT/sessions/mini.yaml -o AGENT/sessions/trajectory.json --own", None),
])  # fmt: skip
def test_a_program_is_called_afresh_and_with_its_session(
    call: Call, program: str, fresh: str, resumed: str | None
) -> None:
    asked = replace(call, model="M", arguments=("--own",))
    assert arguments_of(program, asked) == fresh
    assert ADAPTERS[program].resumes == (resumed is not None)
    if resumed is not None:
        assert arguments_of(program, replace(asked, session="ID")) == resumed
        assert ADAPTERS[program].invoke(asked).stdin == call.prompt.encode()


def test_a_file_with_a_login_is_found_where_the_program_keeps_it(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home / ".codex", home / ".pi/agent", elsewhere):
        folder.mkdir(parents=True)
    codex, pi = ADAPTERS["codex"], ADAPTERS["pi"]
    plain = {"HOME": str(home)}
    (home / ".pi/agent/auth.json").write_text("{}")  # pi makes it, whether one logs in or not
    assert [codex.login(plain).ready, pi.login(plain).ready] == [False, False]
    (home / ".pi/agent/auth.json").write_text('{"anthropic": {"type": "oauth"}}')
    (home / ".codex/config.toml").write_text(
        'model_provider = "own"\n[model_providers.own]\nenv_key = "OWN_KEY"\n'
    )
    (elsewhere / ".credentials.json").write_text("{}")
    assert pi.login(plain).words == "with ~/.pi/agent/auth.json"
    (elsewhere / "models.json").write_text('{"providers": {"own": {"apiKey": "OWN_KEY"}}}')
    own = {**plain, "PI_CODING_AGENT_DIR": str(elsewhere)}
    assert [pi.login(own).ready, pi.login({**own, "OWN_KEY": "x"}).ready] == [False, True]
    assert codex.login({**plain, "OPENAI_API_KEY": "not read by it"}).ready is False
    assert codex.login({**plain, "OWN_KEY": "x"}).ready
    assert codex.login({**plain, "OWN_KEY": "x", "CODEX_HOME": str(elsewhere)}).ready is False
    assert ADAPTERS["claude"].login({**plain, "CLAUDE_CONFIG_DIR": str(elsewhere)}).ready
