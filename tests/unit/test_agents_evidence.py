import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from alluvium_like import masking
from alluvium_like.agents.evidence import (
    ClaimRead,
    give,
    prepare_agent_dir,
    put_aside,
    read_claim,
    read_question,
)
from alluvium_like.lifecycle import Claim

Planting = Callable[[Path], None]


@pytest.fixture
def agent_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "task" / ".agent"
    folder.parent.mkdir()
    prepare_agent_dir(folder)
    return folder


def link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_text('{"status": "succeeded"}')
    path.unlink(missing_ok=True)
    path.symlink_to(outside)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    # Bound by a relative name: the absolute one may be too long for a socket.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "x").touch()


IRREGULAR = [link_outside, dangling, fifo, unix_socket, folder]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"status": "succeeded", "summary": "ok"}, ClaimRead(Claim.SUCCEEDED, "ok", "")),
        ({"status": "failed"}, ClaimRead(Claim.FAILED, "", "")),
        ({"status": "needs_human", "summary": 7}, ClaimRead(Claim.NEEDS_HUMAN, "", "")),
    ],
)
def test_a_claim_is_read(agent_dir: Path, document: object, expected: ClaimRead) -> None:
    (agent_dir / "result.json").write_text(json.dumps(document))
    assert read_claim(agent_dir) == expected


def test_nothing_written_is_no_claim_no_question_and_no_problem(agent_dir: Path) -> None:
    assert read_claim(agent_dir) == ClaimRead(Claim.NOTHING, "", "")
    assert read_question(agent_dir) is None


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "JSON"),
        (b"\xff\x00\xfejunk", "JSON"),
        (b"[" * 200_000, "JSON"),
        (b'{"status": ' + b"9" * 5000 + b"}", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"status": "nothing"}', "status"),
        (b'{"status": "merged"}', "status"),
        (b'{"status": ["succeeded"]}', "status"),
        (b'{"summary": "no status"}', "status"),
        (b'{"status": "succeeded", "x": "' + b"x" * 300_000 + b'"}', "larger"),
    ],
)
def test_junk_is_a_problem_and_never_a_claim(agent_dir: Path, raw: bytes, why: str) -> None:
    (agent_dir / "result.json").write_bytes(raw)
    read = read_claim(agent_dir)
    assert read.claim is Claim.NOTHING
    assert why in read.problem


def test_a_summary_is_bounded_and_inert(agent_dir: Path) -> None:
    hostile = "\x1b[2Jred\x07\n\tline \u202eback \ud800 " + "x" * 5000
    (agent_dir / "result.json").write_text(json.dumps({"status": "succeeded", "summary": hostile}))
    summary = read_claim(agent_dir).summary
    assert summary.startswith("[2Jred line back")
    assert summary.isprintable()
    assert len(summary) == 1000


def test_a_secret_is_masked_before_words_are_cut(
    agent_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its front would stay where the rest of it is cut off."""
    monkeypatch.setattr(masking, "_values", set())
    monkeypatch.setattr(masking, "_known", masking._Known())
    masking.remember(["hush\t4711\t4712"])
    said = "x" * 990 + " hush\t4711\t4712"
    (agent_dir / "result.json").write_text(json.dumps({"status": "succeeded", "summary": said}))
    assert read_claim(agent_dir).summary == "x" * 990 + " [masked]"
    (agent_dir / "needs_human.md").write_text("y" * (64 * 1024 - 9) + "hush\t4711\t4712")
    assert read_question(agent_dir) == "y" * (64 * 1024 - 9) + "[masked]"


@pytest.mark.parametrize("plant", IRREGULAR)
def test_a_result_that_is_no_file_is_not_read(agent_dir: Path, plant: Planting) -> None:
    plant(agent_dir / "result.json")
    assert read_claim(agent_dir) == ClaimRead(
        Claim.NOTHING, "", "result.json is not a regular file"
    )


@pytest.mark.parametrize("plant", IRREGULAR)
def test_a_question_that_is_no_file_still_reaches_a_person(
    agent_dir: Path, plant: Planting
) -> None:
    plant(agent_dir / "needs_human.md")
    assert read_question(agent_dir) == "(needs_human.md is not a regular file)"


def test_a_question_is_bounded_and_inert(agent_dir: Path) -> None:
    path = agent_dir / "needs_human.md"
    path.write_bytes(b"Which\x1b[31m?\r\n\xff\tone\n")
    assert read_question(agent_dir) == "Which[31m?\n\ufffd   one"
    path.write_bytes(b"x" * 10_000_000)
    question = read_question(agent_dir)
    assert question is not None
    assert len(question) == 64 * 1024


@pytest.mark.parametrize("raw", [b"", b" \n", b"\x00\x1b"])
def test_an_empty_question_is_a_question(agent_dir: Path, raw: bytes) -> None:
    (agent_dir / "needs_human.md").write_bytes(raw)
    assert read_question(agent_dir) == "(no text)"


def test_a_folder_that_became_a_link_holds_no_evidence(agent_dir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    agent_dir.rename(elsewhere)
    (elsewhere / "result.json").write_text('{"status": "succeeded"}')
    (elsewhere / "needs_human.md").write_text("?")
    agent_dir.symlink_to(elsewhere)
    assert read_claim(agent_dir).claim is Claim.NOTHING
    assert read_question(agent_dir) is None
    with pytest.raises(OSError, match="Not a directory"):
        put_aside(agent_dir, 1, "how it went")
    prepare_agent_dir(agent_dir)
    assert not agent_dir.is_symlink()
    assert (agent_dir / "outputs").is_dir()
    assert sorted(elsewhere.iterdir()) == sorted(
        elsewhere / name for name in ("effects", "needs_human.md", "outputs", "result.json")
    )


def test_results_of_an_earlier_attempt_are_put_aside(agent_dir: Path) -> None:
    for name in ("needs_human.md", "result.json", "result.md", "plan.md"):
        (agent_dir / name).write_text(name)
    put_aside(agent_dir, 1, "how it went")
    assert read_question(agent_dir) is None
    aside = agent_dir / "discovery" / "attempt-1"
    assert {path.name for path in aside.iterdir()} == {
        "attempt.md",
        "needs_human.md",
        "result.json",
        "result.md",
    }
    assert (agent_dir / "plan.md").exists()
    put_aside(agent_dir, 1, "how it went")


def test_putting_aside_twice_overwrites_nothing(agent_dir: Path) -> None:
    for text in ("first", "second"):
        (agent_dir / "result.md").write_text(text)
        put_aside(agent_dir, 1, "how it went")
    aside = agent_dir / "discovery" / "attempt-1"
    assert (aside / "result.md").read_text() == "first"
    assert (aside / "result.md.1").read_text() == "second"


@pytest.mark.parametrize("plant", IRREGULAR[:-1])
@pytest.mark.parametrize("where", ["discovery", "discovery/attempt-1"])
def test_nothing_planted_leads_the_daemon_out_of_the_folder(
    agent_dir: Path, where: str, plant: Planting
) -> None:
    outside = agent_dir.parent.parent / "outside-folder"
    outside.mkdir()
    planted = agent_dir / where
    planted.parent.mkdir(exist_ok=True)
    if plant is link_outside:
        planted.symlink_to(outside)
    else:
        plant(planted)
    (agent_dir / "needs_human.md").symlink_to("/etc/passwd")
    put_aside(agent_dir, 1, "how it went")
    assert read_question(agent_dir) is None
    assert not list(outside.iterdir())
    moved = agent_dir / "discovery" / "attempt-1" / "needs_human.md"
    assert moved.is_symlink()
    assert os.path.lexists(f"{planted}.aside")


@pytest.mark.parametrize("plant", IRREGULAR[:-1])
def test_an_attempt_finds_its_folders_whatever_was_planted(
    agent_dir: Path, plant: Planting
) -> None:
    (agent_dir / "effects").rmdir()
    plant(agent_dir / "effects")
    (agent_dir / "outputs" / "kept").touch()
    prepare_agent_dir(agent_dir)
    assert (agent_dir / "effects").is_dir()
    assert not (agent_dir / "effects").is_symlink()
    assert (agent_dir / "outputs" / "kept").exists()


def test_a_locked_folder_is_opened_again(agent_dir: Path) -> None:
    for name, mode in (("outputs", 0o000), ("effects", 0o500)):
        (agent_dir / name).chmod(mode)
    prepare_agent_dir(agent_dir)
    for name in ("outputs", "effects"):
        assert (agent_dir / name).stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize("plant", IRREGULAR)
def test_what_the_daemon_gives_arrives_and_nowhere_else(agent_dir: Path, plant: Planting) -> None:
    for name in ("prompt.md", ".prompt.md.placing"):
        plant(agent_dir / name)
    outside = agent_dir.parent / "outside"
    before = outside.read_text() if outside.exists() else None
    give(agent_dir, "prompt.md", "Do it. \ud800\n")
    give(agent_dir, "prompt.md", "Do it again.\n")
    assert (agent_dir / "prompt.md").read_text() == "Do it again.\n"
    assert not (agent_dir / "prompt.md").is_symlink()
    assert (outside.read_text() if outside.exists() else None) == before
