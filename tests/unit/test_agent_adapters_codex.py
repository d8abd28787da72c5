"""What codex tells in its stream, in its log, and in its own file of the thread."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from stream_bed import CRASHED, NOW, OK, QUOTA, call_in, lines_of, run

from alluvium_like.agents.events import Usage

THREAD = "0199aaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
WAIT = lines_of("codex", "wait")


def write_rollout(home: Path, thread: str, *told: object) -> None:
    day = home / "sessions/2026/11/21"
    day.mkdir(parents=True)
    file = day / f"rollout-2026-11-21T18-12-24-{thread}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in told) + '{"half')


def tokens(**told: int) -> object:
    return {"type": "event_msg", "payload": {"type": "token_count", "info": {
        "total_token_usage": told}}}  # fmt: skip


def test_codex_tells_the_end_of_a_quota_as_a_clock(tmp_path: Path) -> None:
    far = run("codex", lines_of("codex", "quota-far"), call_in(tmp_path), 1).judged.resets_at
    assert far == datetime(2026, 11, 25, 18, 23, 59).astimezone().timestamp()
    near = run("codex", lines_of("codex", "quota"), call_in(tmp_path), 1).judged.resets_at
    assert near is not None
    assert near - NOW <= 24 * 3600
    assert f"{datetime.fromtimestamp(near):%H:%M:%S}" == "19:30:59"


def test_codex_counts_what_was_told_before_a_resume_only_once(tmp_path: Path) -> None:
    resumed = replace(call_in(tmp_path), session="01a1ff4b", told=Usage(3702, 600, 168))

    told = run("codex", lines_of("codex", "resume"), resumed)

    assert told.judged.outcome is OK
    assert told.usage == Usage(3702, 600, 168, total=True)


def test_codex_tells_what_it_uses_before_its_turn_ends(tmp_path: Path) -> None:
    lines = lines_of("codex", "late")
    write_rollout(
        tmp_path,
        json.loads(lines[0])["thread_id"],
        {"type": "turn_context", "payload": {"model": "gpt-x", "cwd": "/"}},
        {"type": "event_msg", "payload": {"type": "token_count", "info": None}},
        tokens(input_tokens=2468, cached_input_tokens=400, output_tokens=112),
    )
    environment = {"CODEX_HOME": str(tmp_path)}
    resumed = replace(call_in(tmp_path), environment=environment, told=Usage(1234, 200, 56))

    told = run("codex", lines, resumed, 1)

    assert told.usage == Usage(1234, 200, 56, model="gpt-x", total=True)
    assert told.kinds == "session usage tool_call error end"
    assert told.judged.outcome is CRASHED


def test_a_number_that_no_machine_counts_to_is_no_number_of_tokens(tmp_path: Path) -> None:
    write_rollout(tmp_path, THREAD, tokens(input_tokens=10**400, output_tokens=7))
    call = replace(call_in(tmp_path), environment={"CODEX_HOME": str(tmp_path)})
    lines = [
        {"type": "thread.started", "thread_id": THREAD},
        {"type": "item.completed", "item": {"id": "1", "type": "agent_message", "text": "Done."}},
        {"type": "turn.completed", "usage": {"input_tokens": 1e999, "output_tokens": 9}},
    ]

    told = run("codex", lines, call)

    assert told.judged.outcome is OK
    assert told.usage == Usage(0, 0, 9, total=True)


@pytest.mark.parametrize("errors_first", [True, False])
def test_a_wait_of_an_hour_is_a_quota_on_whichever_stream_it_is_told_of_first(
    errors_first: bool, tmp_path: Path
) -> None:
    lines = sorted(WAIT, key=lambda line: line.startswith("! "), reverse=errors_first)

    told = run("codex", lines, call_in(tmp_path), None)

    assert (told.judged.outcome, told.judged.burst) == (QUOTA, False)
    assert told.judged.resets_at == pytest.approx(NOW + 3600, abs=1)
    assert told.record.refused_seconds > 0


def test_a_short_wait_is_a_burst_that_ends_then(tmp_path: Path) -> None:
    lines = [line.replace("in 3599", "in 7") for line in WAIT]

    judged = run("codex", lines, call_in(tmp_path), None).judged

    assert judged.burst
    assert judged.resets_at == pytest.approx(NOW + 7, abs=1)


def test_a_wait_for_an_answer_that_broke_off_is_no_limit(tmp_path: Path) -> None:
    lines = [line.replace("429 Too Many Requests", "stream closed") for line in WAIT]

    assert run("codex", lines, call_in(tmp_path), None).record.limit is None
