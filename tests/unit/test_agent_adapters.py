"""Streams of agent programs, as they really were, end as what they were; what holds for all."""

from pathlib import Path

import pytest
from stream_bed import (
    BY_CLOCK,
    CASES,
    CRASHED,
    NOW,
    OK,
    STREAMS,
    UNREACHABLE,
    Case,
    call_in,
    lines_of,
    run,
)

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import Judged
from alluvium_like.config.agents import PRESETS
from alluvium_like.lifecycle import AgentOutcome

RECORDED = sorted({case.program for case in CASES})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_recorded_run_comes_to_what_really_happened(case: Case, tmp_path: Path) -> None:
    call = call_in(tmp_path)
    told = run(case.program, lines_of(case.program, case.name, call), call, case.code)

    usage = told.usage
    assert told.judged.outcome is case.outcome, told.judged
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == case.tokens
    assert told.kinds == case.kinds
    assert bool(told.record.session) == ("session" in case.kinds)
    assert told.judged.burst == case.burst
    if case.back is None:
        assert told.judged.resets_at is None
    elif case.back != BY_CLOCK:
        assert told.judged.resets_at == pytest.approx(NOW + case.back, abs=1)


def test_every_recorded_stream_is_in_the_table() -> None:
    found = {(path.parent.name, path.stem) for path in STREAMS.glob("*/*.*")}

    assert found - {(case.program, case.name) for case in CASES} == set()


def test_every_preset_has_its_adapter() -> None:
    assert list(ADAPTERS) == list(PRESETS)
    unproven = {name for name, adapter in ADAPTERS.items() if not adapter.proven}
    assert unproven == {"goose", "cursor-agent", "copilot", "amp"}
    own = {"chat", "mcp"}  # they print our own events
    assert set(ADAPTERS) - unproven - own == set(RECORDED)


WORDS = (
    "[API Error: 401 Unauthorized]\nlitellm.AuthenticationError: wrong key\nquota exceeded\n"
    "HTTP 429 Too Many Requests: usage limit reached, 401 invalid api key, ECONNREFUSED"
)
TEXT = {"type": "text", "text": WORDS}
USED = {"input_tokens": 1, "output_tokens": 1}
SAID: dict[str, list[object]] = {
    "codex": [
        {"type": "thread.started", "thread_id": "t"},
        {"type": "item.completed", "item": {"id": "0", "type": "error", "message": WORDS}},
        {"type": "item.completed", "item": {"id": "1", "type": "command_execution",
         "command": f"echo '{WORDS}'", "aggregated_output": WORDS, "exit_code": 1}},
        "! 401 Unauthorized",
        {"type": "item.completed", "item": {"id": "2", "type": "agent_message", "text": WORDS}},
        {"type": "turn.completed", "usage": USED},
    ],
    "claude": [
        {"type": "system", "subtype": "init", "session_id": "s"},
        {"type": "assistant", "message": {"role": "assistant", "content": [
            {"type": "tool_use", "id": "1", "name": "Bash", "input": {"command": WORDS}}]}},
        {"type": "user", "message": {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": WORDS, "is_error": True}]}},
        "! 401 Unauthorized",
        {"type": "assistant", "message": {"role": "assistant", "content": [TEXT]}},
        {"type": "result", "subtype": "success", "is_error": False, "result": WORDS,
         "stop_reason": "end_turn", "usage": USED},
    ],
    "pi": [
        {"type": "session", "id": "s"},
        {"type": "tool_execution_start", "toolCallId": "1", "toolName": "bash",
         "args": {"command": WORDS}},
        {"type": "tool_execution_end", "toolCallId": "1", "toolName": "bash",
         "result": {"content": [TEXT]}, "isError": True},
        {"type": "message_end", "message": {"role": "toolResult", "isError": True,
         "content": [TEXT], "errorMessage": WORDS}},
        {"type": "message_end", "message": {"role": "assistant", "stopReason": "stop",
         "content": [TEXT]}},
        {"type": "turn_end", "message": {"role": "assistant", "stopReason": "stop"}},
    ],
    "gemini": [
        {"type": "init", "session_id": "a"},
        {"type": "tool_use", "tool_id": "t", "tool_name": "run_shell_command"},
        {"type": "tool_result", "tool_id": "t", "status": "error", "output": WORDS},
        {"type": "message", "role": "assistant", "content": WORDS},
        "! 401 Unauthorized",
        {"type": "result", "status": "success", "stats": {}},
    ],
    "qwen": [
        {"type": "system", "subtype": "init", "session_id": "a"},
        "! 401 Unauthorized",
        {"type": "assistant", "message": {"role": "assistant", "usage": USED, "content": [
            {"type": "tool_use", "id": "1", "name": "Bash", "input": {"command": WORDS}}, TEXT]}},
        {"type": "result", "subtype": "success", "is_error": False, "result": WORDS},
    ],
    "opencode": [
        {"type": "step_start", "sessionID": "ses_1", "part": {}},
        {"type": "tool_use", "part": {"tool": "bash", "state": {
            "status": "error", "input": {"command": WORDS}, "output": WORDS}}},
        {"type": "text", "part": {"text": WORDS}},
        "! 401 Unauthorized",
        {"type": "step_finish", "part": {"reason": "stop"}},
    ],
    "aider": [*WORDS.splitlines(), "Tokens: 1.2k sent, 56 received.", "Applied edit to a"],
}  # fmt: skip


@pytest.mark.parametrize("program", SAID)
def test_what_a_model_or_a_tool_says_is_no_complaint(program: str, tmp_path: Path) -> None:
    told = run(program, SAID[program], call_in(tmp_path))

    edited = program == "aider"
    assert told.judged == Judged(OK)
    assert (told.record.limit, told.record.failure) == (None, None)
    assert told.kinds.replace("usage ", "") == (
        "session message file_change end" if edited else "session tool_call message end"
    )


@pytest.mark.parametrize("program", sorted({*RECORDED} - {"mini-swe-agent"}))
def test_a_run_that_is_cut_anywhere_before_its_end_is_never_well(
    program: str, tmp_path: Path
) -> None:
    name = "ok-partial" if program == "claude" else "ok"
    lines = lines_of(program, name)
    last = max(n for n, line in enumerate(lines) if "Tokens: " in line or "{" in line)
    for kept in range(last):
        told = run(program, lines[:kept], call_in(tmp_path))
        assert told.judged.outcome is CRASHED, f"cut behind line {kept}"


def test_a_call_of_a_tool_that_is_nested_too_deep_hides_nothing_that_follows(
    tmp_path: Path,
) -> None:
    """Where the nesting is too deep depends on the caller's stack, so many depths are tried."""
    session, *_, message, end = SAID["pi"]
    call = '{"type":"tool_execution_start","toolCallId":"1","toolName":"x","args":%s}'
    deep = [call % ('{"a":' * depth + "1" + "}" * depth) for depth in range(700, 1000)]

    told = run("pi", [session, *deep, message, end], call_in(tmp_path))

    assert told.judged == Judged(OK)
    assert told.kinds.endswith("message end")


def test_a_program_that_gets_nothing_but_empty_answers_is_ended_as_unreachable(
    tmp_path: Path,
) -> None:
    """opencode asks for ever where a page comes in the place of an answer."""
    told = run("opencode", lines_of("opencode", "empty") * 50, call_in(tmp_path), None)

    assert told.judged.outcome is UNREACHABLE
    assert told.record.refused_seconds > 0


@pytest.mark.parametrize(("used", "outcome"), [({}, OK), ({"input": 5}, UNREACHABLE)])
def test_an_empty_last_answer_is_one_where_the_provider_counts_nothing(
    used: dict[str, int], outcome: AgentOutcome, tmp_path: Path
) -> None:
    said = {"role": "assistant", "stopReason": "stop", "content": [TEXT], "usage": used}
    empty = {**said, "content": [], "usage": {}}
    lines = [{"type": "message_end", "message": message} for message in (said, empty)]

    told = run("pi", [*lines, {"type": "turn_end", "message": empty}], call_in(tmp_path))

    assert told.judged.outcome is outcome


def test_only_claude_tells_of_costs_at_its_end_and_of_tokens_before() -> None:
    assert [name for name, adapter in ADAPTERS.items() if adapter.costs_at_end] == ["claude"]


def test_claude_tells_its_model_and_what_it_cost(tmp_path: Path) -> None:
    usage = run("claude", lines_of("claude", "ok-partial"), call_in(tmp_path)).usage

    assert usage.model == "claude-opus-4-8"
    assert usage.cost == pytest.approx(0.02001)


def test_opencode_s_cost_of_a_model_without_a_price_is_not_known(tmp_path: Path) -> None:
    tokens = {"input": 1034, "output": 56, "cache": {"write": 0, "read": 200}}
    step = {"type": "step_finish", "part": {"reason": "stop", "tokens": tokens, "cost": 0}}

    assert run("opencode", [step], call_in(tmp_path)).usage == Usage(1_234, 200, 56, None)
