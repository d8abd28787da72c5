"""mini-swe-agent: only its trajectory counts, which nobody else may plant."""

import json
from pathlib import Path

from stream_bed import CRASHED, OK, PROMPT, STREAMS, call_in, lines_of, run

from alluvium_like.agents.adapters import ADAPTERS

MINI = ADAPTERS["mini-swe-agent"]


def test_mini_is_not_believed_what_it_prints(tmp_path: Path) -> None:
    call = call_in(tmp_path)
    printed = ["HTTP 429 Too Many Requests", "Submitted", "Traceback: RateLimitError: 429"]
    assert run("mini-swe-agent", printed, call).judged.outcome is CRASHED
    lines = lines_of("mini-swe-agent", "ok", call)
    assert run("mini-swe-agent", lines + printed, call).judged.outcome is OK


def test_mini_s_old_trajectory_is_gone_before_the_next_run(tmp_path: Path) -> None:
    call = call_in(tmp_path)
    lines_of("mini-swe-agent", "ok", call)
    MINI.invoke(call)
    assert run("mini-swe-agent", [], call).judged.outcome is CRASHED


def test_mini_s_files_are_not_written_or_read_through_links(tmp_path: Path) -> None:
    call, outside = call_in(tmp_path), tmp_path / "outside"
    call.home.mkdir()
    for name in ("mini.yaml", "trajectory.json"):
        (call.home / name).symlink_to(outside)
    MINI.invoke(call)
    assert not outside.exists()
    (call.home / "trajectory.json").unlink()
    (call.home / "trajectory.json").symlink_to(STREAMS / "mini-swe-agent" / "ok.json")
    assert run("mini-swe-agent", [], call).judged.outcome is CRASHED


def test_mini_is_given_the_prompt_in_a_file_that_any_yaml_reader_reads(tmp_path: Path) -> None:
    arguments = MINI.invoke(call_in(tmp_path)).arguments
    text = Path(arguments[arguments.index("-o") - 1]).read_text()
    assert text.isascii()
    plain = text.replace("\\U0001f600", "😀").replace("\\U000065e5", "日")
    plain = plain.replace("\\U0000672c", "本").replace("\\U0000007f", "\x7f")
    assert json.loads(plain)["run"] == {"task": PROMPT}


def test_arguments_that_are_nested_too_deep_spoil_nothing_else(tmp_path: Path) -> None:
    """What is read at the end of a run, where nobody would catch it."""
    call = call_in(tmp_path)
    lines = lines_of("mini-swe-agent", "ok", call)
    file = call.home / "trajectory.json"
    told = json.loads(file.read_text())
    answers = [each for each in told["messages"] if (each.get("extra") or {}).get("response")]
    asked = answers[0]["extra"]["response"]["choices"][0]["message"]["tool_calls"][0]
    asked["function"]["arguments"] = "[" * 3000 + "]" * 3000
    file.write_text(json.dumps(told))

    assert run("mini-swe-agent", lines, call).judged.outcome is OK
