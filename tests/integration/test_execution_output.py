"""What a run reads and prints: kept apart or merged, capped, whole, and never a reason to stall."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
from test_execution_runs import _daemon_like as _daemon_like
from test_execution_runs import make_spec, run

from alluvium_like.execution.output import OutputPump
from alluvium_like.lifecycle import Ending
from alluvium_like.masking import remember


async def test_output_is_kept_apart_or_merged_and_appended(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo out; echo err >&2; echo again; exit 3"]
    apart = make_spec(tmp_path, argv)
    assert (await run(apart)).exit_code == 3
    assert apart.stdout_path.read_text() == "out\nagain\n"
    assert apart.stderr_path.read_text() == "err\n"
    merged = make_spec(tmp_path, argv, stderr_path=apart.stdout_path)
    await run(merged)
    assert merged.stdout_path.read_text() == "out\nagain\nout\nerr\nagain\n"


async def test_standard_input_is_given_whole_and_need_not_be_read(tmp_path: Path) -> None:
    prompt = b"a prompt\n" * 200_000
    spec = make_spec(tmp_path, ["cat"], stdin=prompt, output_limit_bytes=len(prompt))
    await run(spec)
    assert spec.stdout_path.read_bytes() == prompt
    assert (await run(make_spec(tmp_path, ["true"], stdin=prompt))).exit_code == 0
    assert (await run(make_spec(tmp_path, ["cat"]))).exit_code == 0


async def test_endless_output_is_capped_without_stalling_the_run(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, ["head", "-c", "50000000", "/dev/zero"], output_limit_bytes=1000)
    end = await run(spec)
    assert end.exit_code == 0
    assert end.duration_seconds < 5
    note = b"\n[output limit of 1000 bytes reached; the rest was dropped]\n"
    assert spec.stdout_path.read_bytes() == b"\0" * 1000 + note


async def test_output_of_exactly_the_limit_gets_no_note(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, ["printf", "12345"], output_limit_bytes=5)
    await run(spec)
    assert spec.stdout_path.read_text() == "12345"


async def test_several_runs_that_print_into_one_file_have_one_limit(tmp_path: Path) -> None:
    note = "[output limit of 5 bytes reached; the rest was dropped]\n"
    for text, kept in (
        ("123", "123"),
        ("45", "12345"),
        ("6\n", f"12345{note}"),
        ("7\n", f"12345{note}"),
    ):
        spec = make_spec(tmp_path, ["printf", text], output_limit_bytes=5)
        await run(spec)
        assert spec.stdout_path.read_text() == kept


def test_what_is_still_in_the_pipe_is_kept(tmp_path: Path) -> None:
    pump = OutputPump(tmp_path / "out", tmp_path / "out", 1 << 20)
    fcntl.fcntl(pump.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(pump.stdout, b"x" * (1 << 20))
    pump.finish()
    pump.hand_over()
    assert (tmp_path / "out").stat().st_size == 1 << 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, ["head", "-c", "1000000", "/dev/zero"])
    assert (await run(replace(spec, stdout_path=Path("/dev/full")))).exit_code == 0


async def test_an_output_path_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, ["echo", "x"])
    spec.stdout_path.symlink_to(tmp_path / "precious")
    assert (await run(spec)).ending is Ending.NOT_STARTED
    assert not (tmp_path / "precious").exists()


def pumped(folder: Path, chunks: list[bytes], limit: int = 1 << 30) -> tuple[list[bytes], bytes]:
    """Print chunks into a pump; return the lines that it told of, and what it kept."""
    told: list[bytes] = []
    pump = OutputPump(folder / "out", folder / "err", limit, on_line=told.append)
    for chunk in chunks:
        os.write(pump.stdout, chunk)
    pump.hand_over()
    pump.finish()
    return told, (folder / "out").read_bytes()


def test_lines_are_told_whole_and_the_last_one_without_its_end(tmp_path: Path) -> None:
    chunks = [b"one\ntw", b"o\n\nth", b"ree"]
    assert pumped(tmp_path, chunks) == ([b"one", b"two", b"", b"three"], b"one\ntwo\n\nthree")


def test_secrets_are_masked_in_what_is_kept_and_lines_are_told_as_they_were(
    tmp_path: Path,
) -> None:
    """A program that is passed a word of its own stream is understood all the same."""
    remember(["hush-4711-4712", "result"])
    chunks = [
        b'{"type": "result", "key": "hush-47',
        b'11-4712"}\nsk-Abcdefgh',
        b"ijklmnopq\nresult",
    ]
    told, kept = pumped(tmp_path, chunks)
    assert b"\n".join(told) == b"".join(chunks)
    assert kept == b'{"type": "[masked]", "key": "[masked]"}\n[masked]\n[masked]'


def test_lines_are_told_when_nothing_is_kept_any_more(tmp_path: Path) -> None:
    told, kept = pumped(tmp_path, [b"one\n", b"two\n", b"three"], limit=3)
    assert told == [b"one", b"two", b"three"]
    assert kept.startswith(b"one\n[output limit of 3 bytes")


def test_of_a_giant_line_nobody_is_told(tmp_path: Path) -> None:
    """The last one of them has no end."""
    giant = [b"x" * 65_536] * 140
    told, kept = pumped(tmp_path, [b"one\n", *giant, b"\ntwo\n", *giant])
    assert told == [b"one", b"two"]
    assert len(kept) == 2 * 140 * 65_536 + 9


async def test_a_listener_that_fails_does_not_stall_the_run(tmp_path: Path) -> None:
    told = []

    def listen(line: bytes) -> None:
        told.append(line)
        raise ValueError("oh")

    spec = make_spec(tmp_path, ["sh", "-c", "echo one; head -c 500000 /dev/zero; echo; echo two"])
    end = await run(replace(spec, on_line=listen))
    assert (end.ending, end.exit_code, told) == (Ending.EXITED, 0, [b"one"])
    assert spec.stdout_path.stat().st_size == 500_009
