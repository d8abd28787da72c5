"""What recorded streams of gemini, qwen, opencode and aider come to, and what holds for all.

`streams/<program>/<case>.txt` is what a program printed, trimmed; lines that begin with `! ` are of
its standard error. A further program or case is one more line below.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Call
from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import Judged, judge_run
from alluvium_like.agents.record import Record
from alluvium_like.clock import time_of_day
from alluvium_like.config.agents import PRESETS
from alluvium_like.lifecycle import AgentOutcome, Ending

STREAMS = Path(__file__).parent / "streams"
OK, CRASHED, AUTH, QUOTA, UNREACHABLE, CONTEXT, REFUSED = (
    AgentOutcome[name]
    for name in ("OK", "CRASHED", "AUTH", "QUOTA", "UNREACHABLE", "CONTEXT", "REFUSED")
)
CUT = AgentOutcome.TIMED_OUT
SESSIONS = {"gemini": 36, "qwen": 36, "opencode": 30, "aider": 7}
"""How long the name of a session is."""


@dataclass(frozen=True)
class Case:
    """A run: its exit (a signal: it was ended at its deadline), and what it is to come to.

    `back`: in how many seconds a limit ends. `kinds`: what the transcript holds, S first where the
    session was told.
    """

    program: str
    name: str
    code: int
    outcome: AgentOutcome
    tokens: int
    kinds: str
    back: int | None = None
    burst: bool = False

    def __str__(self) -> str:
        return f"{self.program}-{self.name}"


CASES = [
    Case("gemini", "broken_after", 1, CRASHED, 1290, "S tool_call message usage error end"),
    Case("gemini", "context", 144, CONTEXT, 0, "S usage error end"),
    Case("gemini", "endless", 0, CRASHED, 0, "S message error usage end"),
    Case("gemini", "no_key", 41, AUTH, 0, "error"),
    Case("gemini", "nothing", 1, UNREACHABLE, 0, "S usage error end"),
    Case("gemini", "ok", 0, OK, 2580, "S tool_call message usage end"),
    Case("gemini", "quota", 173, QUOTA, 0, "S usage limit end limit", back=7195),
    Case("gemini", "quota_none", 173, QUOTA, 0, "S usage limit end"),
    Case("gemini", "rate_limited", 0, OK, 2580, "S limit tool_call message usage end"),
    Case("gemini", "refused", 0, OK, 1290, "S message usage end"),
    Case("gemini", "resume", 0, OK, 2580, "S tool_call message usage end"),
    Case("gemini", "resume_unknown", 42, CRASHED, 0, "error"),
    Case("gemini", "server_error", 0, UNREACHABLE, 0, "S error error"),
    Case("gemini", "term", 0, CUT, 0, "S tool_call"),
    Case("gemini", "unauthorized", 144, AUTH, 0, "S usage error end"),
    Case("opencode", "broken", -15, CRASHED, 0, "error"),
    Case("opencode", "broken_after", -15, CRASHED, 1290, "S tool_call usage error"),
    Case("opencode", "broken_given_up", 1, CRASHED, 1290, "S tool_call usage error error end"),
    Case("opencode", "context", 1, CONTEXT, 0, "S error error error end"),
    Case("opencode", "nothing", -15, UNREACHABLE, 0, "error"),
    Case("opencode", "ok", 0, OK, 2580, "S tool_call usage message usage end"),
    Case("opencode", "quota", -15, QUOTA, 0, "limit", back=7179),
    Case("opencode", "quota_none", -15, QUOTA, 0, "limit"),
    Case("opencode", "rate_limited", 0, OK, 2580, "limit S tool_call usage message usage end"),
    Case("opencode", "refused", 1, REFUSED, 1290, "S message usage error end"),
    Case("opencode", "resume", 0, OK, 2580, "S tool_call usage message usage end"),
    Case("opencode", "resume_unknown", 1, CRASHED, 0, "error"),
    Case("opencode", "server_error", -15, UNREACHABLE, 0, "error"),
    Case("opencode", "term", -15, CUT, 0, "S"),
    Case("opencode", "unauthorized", 1, AUTH, 0, "S error error end"),
    Case("qwen", "broken", 0, CRASHED, 0, "S error end"),
    Case("qwen", "broken_after", 0, CRASHED, 1290, "S tool_call usage message error end"),
    Case("qwen", "context", 0, CONTEXT, 0, "S error end"),
    Case("qwen", "no_key", 1, AUTH, 0, "error end"),
    Case("qwen", "nothing", 0, UNREACHABLE, 0, "S error end"),
    Case("qwen", "ok", 0, OK, 2580, "S tool_call usage message usage end"),
    Case("qwen", "quota", 0, QUOTA, 0, "S limit end", back=7109),
    Case("qwen", "refused", 0, OK, 1290, "S message usage end"),
    Case("qwen", "resume", 0, OK, 2580, "S tool_call usage message usage end"),
    Case("qwen", "resume_unknown", 1, CRASHED, 0, "error"),
    Case("qwen", "server_error", 0, UNREACHABLE, 0, "S error end"),
    Case("qwen", "term", 130, CUT, 1290, "S tool_call usage"),
    Case("qwen", "unauthorized", 0, AUTH, 0, "S error end"),
    Case("aider", "broken", -15, UNREACHABLE, 0, "error end"),
    Case("aider", "context", 0, CONTEXT, 1900, "S usage error end"),
    Case("aider", "no_key", 0, AUTH, 0, "error end"),
    Case("aider", "ok", 0, OK, 1256, "S message usage file_change end"),
    Case("aider", "quota", 0, QUOTA, 0, "limit end", back=7187),
    Case("aider", "quota_none", -15, QUOTA, 0, "limit end"),
    Case("aider", "refused", 0, OK, 1256, "S message usage end"),
    Case("aider", "resume", 0, OK, 1256, "S message usage file_change end"),
    Case("aider", "server_error", -15, UNREACHABLE, 0, "error end"),
    Case("aider", "term", -15, CUT, 0, ""),
    Case("aider", "unauthorized", 0, AUTH, 0, "error end"),
]


def lines_of(program: str, name: str) -> list[tuple[bytes, bool]]:
    text = (STREAMS / program / f"{name}.txt").read_text()
    return [(line.removeprefix("! ").encode(), line.startswith("! ")) for line in text.splitlines()]


def call_in(folder: Path) -> Call:
    agent = folder / "agent"
    return Call(folder / "tree", "Do it.", agent / "prompt.md", agent / "sessions")


def run(
    folder: Path, program: str, lines: Iterable[tuple[bytes, bool]], ending: Ending, code: int
) -> tuple[Record, Judged]:
    """Take a stream as a run takes it, and judge it."""
    adapter = ADAPTERS[program]
    record = Record(adapter.reader(call_in(folder)), folder / "transcript.jsonl", lambda _: None)
    for line, error in lines:
        record.take_line(line, error=error)
    record.finish()
    return record, judge_run(ending, code, record, needs_end=adapter.needs_end, words="it exited")


def kinds_in(folder: Path) -> str:
    told = folder / "transcript.jsonl"
    lines = told.read_text().splitlines() if told.exists() else []
    return " ".join(json.loads(line)["kind"] for line in lines)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_recorded_run_comes_to_what_really_happened(case: Case, tmp_path: Path) -> None:
    ending = Ending.TIMED_OUT if case.outcome is CUT or case.code < 0 else Ending.EXITED
    lines = lines_of(case.program, case.name)

    record, judged = run(tmp_path, case.program, lines, ending, case.code)

    assert (judged.outcome, record.usage.tokens) == (case.outcome, case.tokens)
    assert kinds_in(tmp_path) == case.kinds.replace("S", "session", 1)
    assert len(record.session) == (SESSIONS[case.program] if "S" in case.kinds else 0)
    assert judged.burst == case.burst
    if case.back is not None:
        assert judged.resets_at == pytest.approx(time_of_day() + case.back, abs=60)
    elif judged.outcome is QUOTA and not case.burst:
        assert judged.resets_at is None


def test_every_recorded_stream_is_in_the_table() -> None:
    found = {(path.parent.name, path.stem) for path in STREAMS.glob("*/*.txt")}

    assert {(case.program, case.name) for case in CASES} == {
        (program, name) for program, name in found if program in SESSIONS
    }


def test_every_preset_has_its_adapter() -> None:
    assert list(ADAPTERS) == list(PRESETS)
    unproven = {name for name, adapter in ADAPTERS.items() if not adapter.proven}
    assert unproven == {"goose", "cursor-agent", "copilot", "amp"}


def test_the_time_at_which_a_quota_is_back_is_found_on_either_stream_first(tmp_path: Path) -> None:
    lines = lines_of("gemini", "quota")
    for number, order in enumerate((sorted, reversed)):
        folder = tmp_path / str(number)
        folder.mkdir()
        ordered = sorted(lines, key=lambda line: line[1], reverse=order is reversed)
        begin = [line for line in ordered if b'"init"' in line[0]]
        rest = [line for line in ordered if b'"init"' not in line[0]]
        _, judged = run(folder, "gemini", [*begin, *rest], Ending.EXITED, 173)
        assert judged.resets_at == pytest.approx(time_of_day() + 7195, abs=60)


SPOKEN = "[API Error: 401 Unauthorized]\nlitellm.AuthenticationError: wrong key\nquota exceeded"


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (
            "gemini",
            [
                '{"type":"init","session_id":"a"}',
                {"type": "message", "role": "assistant", "content": SPOKEN},
                {"type": "tool_use", "tool_id": "t", "tool_name": "run_shell_command"},
                {"type": "tool_result", "tool_id": "t", "status": "error", "output": SPOKEN},
                "! 401 Unauthorized",
                {"type": "result", "status": "success", "stats": {}},
            ],
        ),
        (
            "qwen",
            [
                '{"type":"system","subtype":"init","session_id":"a"}',
                "! 401 Unauthorized",
                {
                    "type": "assistant",
                    "message": {
                        "role": "assistant",
                        "content": [{"type": "text", "text": SPOKEN}],
                        "usage": {"input_tokens": 9, "output_tokens": 9},
                    },
                },
                {"type": "result", "subtype": "success", "is_error": False, "result": SPOKEN},
            ],
        ),
        (
            "opencode",
            [
                {"type": "step_start", "sessionID": "ses_1", "part": {}},
                {"type": "text", "part": {"text": SPOKEN}},
                "! 401 Unauthorized",
                {"type": "step_finish", "part": {"reason": "stop"}},
            ],
        ),
        ("aider", [*SPOKEN.splitlines(), "Tokens: 1.2k sent, 56 received.", "Applied edit to a"]),
    ],
)
def test_what_a_model_or_a_tool_says_is_no_complaint(
    program: str, lines: list[object], tmp_path: Path
) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    told = [(text.removeprefix("! ").encode(), text.startswith("! ")) for text in texts]

    record, judged = run(tmp_path, program, told, Ending.EXITED, 0)

    assert (judged.outcome, record.limit, record.failure) == (OK, None, None)
    assert "error" not in kinds_in(tmp_path)
    assert json.dumps(SPOKEN) in (tmp_path / "transcript.jsonl").read_text() or program == "aider"


@pytest.mark.parametrize("program", ["gemini", "qwen", "opencode", "aider"])
def test_a_run_that_is_cut_anywhere_before_its_end_is_never_well(
    program: str, tmp_path: Path
) -> None:
    lines = lines_of(program, "ok")
    last = max(n for n, (line, _) in enumerate(lines) if b"Tokens: " in line or b"{" in line)
    for kept in range(last):
        folder = tmp_path / str(kept)
        folder.mkdir()
        _, judged = run(folder, program, lines[:kept], Ending.EXITED, 0)
        assert judged.outcome is CRASHED, f"cut behind line {kept}"


def test_the_tools_that_write_files_tell_of_changes_when_they_ended_well(tmp_path: Path) -> None:
    begun = {"type": "tool_use", "tool_name": "write_file", "parameters": {"file_path": "a.txt"}}
    lines: list[dict[str, object]] = []
    for call, status in (("1", "success"), ("2", "error")):
        ended: dict[str, object] = {"type": "tool_result", "tool_id": call, "status": status}
        lines += [{**begun, "tool_id": call}, ended]

    run(
        tmp_path, "gemini", [(json.dumps(line).encode(), False) for line in lines], Ending.EXITED, 0
    )

    assert kinds_in(tmp_path) == "tool_call file_change tool_call"


@pytest.mark.parametrize(
    ("lines", "usage"),
    [
        (
            ["Tokens: 12k sent, 3.1k cache write, 5k cache hit, 1.2k received."],
            Usage(12_000, 5_000, 1_200),
        ),
        (
            ["Tokens: 999 sent, 1 received. Cost: $0.0011 message, $0.0022 session."] * 2,
            Usage(1_998, 0, 2, 0.0022),
        ),
        (
            ["Tokens: 5k sent, 5k cache hit, 7 received.", "Cost: $0.50 message, $1.00 session."],
            Usage(5_000, 5_000, 7, 0.5),
        ),
    ],
)
def test_what_aider_says_of_tokens_and_cost_is_added_up(
    lines: list[str], usage: Usage, tmp_path: Path
) -> None:
    told = [(line.encode(), False) for line in lines]

    record, _ = run(tmp_path, "aider", told, Ending.EXITED, 0)

    assert record.usage == usage


def test_opencode_s_cost_of_a_model_without_a_price_is_not_known(tmp_path: Path) -> None:
    step = (
        '{"type":"step_finish","part":{"reason":"stop","tokens":{"input":1034,"output":56,'
        '"cache":{"write":0,"read":200}},"cost":0}}'
    )

    record, _ = run(tmp_path, "opencode", [(step.encode(), False)], Ending.EXITED, 0)

    assert record.usage == Usage(1_234, 200, 56, None)


RECORDED = sorted(
    {line for path in STREAMS.glob("*/*.txt") for line in path.read_bytes().splitlines()}
)
HUGE = b'{"type":"' + b"x" * 300_000
SHAPES: tuple[object, ...] = (
    None,
    True,
    -1,
    10**400,
    1e999,
    "half \ud800",
    [],
    ["x"],
    {},
    {"x": []},
)


@st.composite
def mutated_lines(draw: st.DrawFn) -> bytes:
    """Draw a recorded line, or any, or a huge one: as it is, cut, or with junk in it."""
    line = draw(st.sampled_from(RECORDED) | st.binary(max_size=50) | st.just(HUGE))
    at = draw(st.integers(0, len(line)))
    how = draw(st.sampled_from(["as it is", "cut", "junk"]))
    if how == "as it is":
        return line
    return line[:at] if how == "cut" else line[:at] + draw(st.binary(max_size=8)) + line[at:]


@pytest.mark.parametrize("program", ADAPTERS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.tuples(mutated_lines(), st.booleans()), max_size=8))
def test_whatever_is_printed_is_read_and_never_raises(
    program: str, lines: list[tuple[bytes, bool]], tmp_path: Path
) -> None:
    record, judged = run(tmp_path, program, lines, Ending.EXITED, 0)

    usage = record.usage
    assert 0 <= usage.tokens < 2**63
    assert usage.cost is None or usage.cost >= 0
    assert record.session.isprintable()
    (record.session + judged.reason + usage.model).encode()


def misshapen(told: object) -> Iterator[object]:
    """Yield an object of JSON with each of its values in turn replaced by something else."""
    if not isinstance(told, dict | list):
        return
    for key in list(told) if isinstance(told, dict) else range(len(told)):
        kept = told[key]
        for shape in SHAPES:
            told[key] = shape
            yield told
        told[key] = kept
        for _ in misshapen(kept):
            yield told


@pytest.mark.parametrize("program", ADAPTERS)
def test_a_value_of_another_shape_anywhere_in_a_stream_never_raises(
    program: str, tmp_path: Path
) -> None:
    recorded = program if (STREAMS / program).exists() else "claude"
    paths = (STREAMS / recorded).glob("*.txt")
    lines = {line for path in paths for line in path.read_text().splitlines() if line[:1] == "{"}
    firsts = {re.sub(r"\W+|\d+", "", line)[:60]: line for line in sorted(lines)}
    reader = ADAPTERS[program].reader(call_in(tmp_path))
    for line in firsts.values():
        for told in misshapen(json.loads(line)):
            for event in reader.line(json.dumps(told)):
                text = json.dumps(event.document(), ensure_ascii=False)
                assert text.encode()
    assert list(reader.finish()) is not None


@pytest.mark.parametrize("hours", ["99999999", "9" * 5000])
def test_a_quota_that_is_back_in_no_possible_time_is_back_at_an_unknown_one(
    hours: str, tmp_path: Path
) -> None:
    line = f"litellm.RateLimitError: requests per day. Please try again in {hours}h"

    _, judged = run(tmp_path, "aider", [(line.encode(), False)], Ending.EXITED, 0)

    assert (judged.outcome, judged.resets_at) == (QUOTA, None)


def test_a_session_that_would_be_an_option_is_none(tmp_path: Path) -> None:
    line = b'{"type":"init","session_id":"--yolo"}'

    record, _ = run(tmp_path, "gemini", [(line, False)], Ending.EXITED, 0)

    assert record.session == ""
