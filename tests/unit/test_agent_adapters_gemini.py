"""What gemini tells on its two streams and in its own file of the session."""

import json
from pathlib import Path

import pytest
from stream_bed import NOW, OK, call_in, lines_of, run, take

from alluvium_like.agents.adapters import ADAPTERS, growing
from alluvium_like.agents.events import Usage
from alluvium_like.agents.record import Record

SESSION = "ed729b81-fec8-4df9-9269-e780af46ebc6"


def request_of(name: str, second: int, **more: object) -> str:
    """Return a line of gemini's own file, of which the thoughts are in the total alone."""
    tokens = {"input": 1234, "output": 50, "cached": 200, "thoughts": 6, "tool": 0, "total": 1290}
    stamp = f"2026-11-21T18:07:{second:02}.000Z"
    told = {"id": name, "timestamp": stamp, "type": "gemini", "tokens": tokens, "model": "g"}
    return json.dumps(told | more) + "\n"


@pytest.mark.parametrize("errors_first", [True, False])
def test_the_time_at_which_a_quota_is_back_is_found_on_either_stream_first(
    errors_first: bool, tmp_path: Path
) -> None:
    lines = lines_of("gemini", "quota")
    begin = [line for line in lines if '"init"' in line]
    rest = [line for line in lines if '"init"' not in line]
    rest.sort(key=lambda line: line.startswith("! "), reverse=errors_first)

    judged = run("gemini", [*begin, *rest], call_in(tmp_path), 173).judged

    assert judged.resets_at == pytest.approx(NOW + 7195, abs=1)


def test_the_tools_that_write_files_tell_of_changes_when_they_ended_well(tmp_path: Path) -> None:
    begun = {"type": "tool_use", "tool_name": "write_file", "parameters": {"file_path": "a.txt"}}
    lines: list[object] = []
    for call, status in (("1", "success"), ("2", "error")):
        lines += [{**begun, "tool_id": call}]
        lines += [{"type": "tool_result", "tool_id": call, "status": status}]

    assert run("gemini", lines, call_in(tmp_path)).kinds == "tool_call file_change tool_call"


def test_gemini_tells_what_it_uses_before_it_ends(tmp_path: Path) -> None:
    """What is older than the run belongs to the run before; a request may be written twice."""
    chats = tmp_path / "home/.gemini/tmp/tree/chats"
    chats.mkdir(parents=True)
    file = chats / f"session-2026-11-21T18-00-{SESSION[:8]}.jsonl"
    half = request_of("b", 7)
    file.write_text('{"$set":{}}\n' + request_of("old", 1) + request_of("a", 5) + half[:40])
    begun_at = "2026-11-21T18:07:03.118Z"
    kept = tmp_path / "told.jsonl"
    record = Record(ADAPTERS["gemini"].reader(call_in(tmp_path)), kept, lambda _: None)

    take(record, {"type": "init", "session_id": SESSION, "timestamp": begun_at, "model": "g"})
    take(record, {"type": "tool_use", "tool_id": "1", "tool_name": "run_shell_command"})
    assert record.usage == Usage(1234, 200, 56, model="g", total=True)

    with file.open("a") as stream:
        stream.write(half[40:] + request_of("a", 5, toolCalls=[]))
    take(record, {"type": "tool_result", "tool_id": "1", "status": "success"})
    record.finish()

    assert record.usage == Usage(2468, 400, 112, model="g", total=True)
    kinds = [json.loads(line)["kind"] for line in kept.read_text().splitlines()]
    assert kinds == ["session", "tool_call", "usage", "usage"]


def test_a_line_of_any_length_hides_nothing_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "_MOST_AT_ONCE", 64)
    (tmp_path / "kept.jsonl").write_text("x" * 200 + '\n{"tokens": 1}\n{"other": 1}\n')
    file = growing.Growing(tmp_path, b'"tokens"')

    looks = [list(file.look("*.jsonl")) for _ in range(5)]

    assert [told for look in looks for told in look] == [{"tokens": 1}]


def test_what_gemini_s_result_tells_of_tokens_counts_in_the_end(tmp_path: Path) -> None:
    stats = {"input_tokens": 100, "output_tokens": 5, "total_tokens": 112, "cached": 10}
    result = {"type": "result", "status": "success", "stats": stats}

    assert run("gemini", [result], call_in(tmp_path)).usage == Usage(100, 10, 12, total=True)


@pytest.mark.parametrize(
    "progress",
    [
        {"type": "message", "role": "assistant", "content": "On it."},
        {"type": "tool_use", "tool_id": "1", "tool_name": "run_shell_command"},
    ],
)
def test_a_limit_that_gemini_got_over_is_forgotten(
    progress: dict[str, object], tmp_path: Path
) -> None:
    lines = [
        {"type": "init", "session_id": SESSION},
        {"type": "error", "message": "You have exhausted your daily quota"},
        "! Please retry in 7200s.",
        progress,
        {"type": "result", "status": "success", "stats": {}},
    ]

    told = run("gemini", lines, call_in(tmp_path))

    assert (told.judged.outcome, told.record.limit) == (OK, None)


def test_a_session_that_would_be_an_option_is_none(tmp_path: Path) -> None:
    line = {"type": "init", "session_id": "--yolo"}

    assert run("gemini", [line], call_in(tmp_path)).record.session == ""
