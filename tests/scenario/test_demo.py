"""The demo as a person runs it: a real process, its real daemon, what it prints and leaves."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alluvium_like.lock import is_locked
from alluvium_like.store.reader import StoreReader
from alluvium_like.workspace import Workspace

PROMISED_SECONDS = 30.0
PROGRAM = [sys.executable, "-P", "-m", "alluvium_like"]


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """The environment of a person whose Git signs every commit and was pointed elsewhere."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = false\n")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_DIR": "/nonexistent",
    }


def run(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=PROMISED_SECONDS,
        check=False,
    )


@contextmanager
def playing(env: dict[str, str], *args: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo and hand it over once a line with `until` was printed."""
    with subprocess.Popen(
        [*PROGRAM, "demo", *args],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        try:
            assert demo.stdout
            assert any(until in line for line in demo.stdout)
            yield demo
        finally:
            if demo.poll() is None:
                demo.kill()


def daemon_pid(root: Path) -> int:
    return int(Workspace.at(root).pid_file.read_text())


def test_four_items_become_a_commit_a_note_and_two_questions(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    root = tmp_path / "a demo"
    done = run("demo", str(root), env=surroundings)
    assert (done.returncode, done.stderr) == (0, "")

    tasks: dict[str, Any] = {
        each["name"]: each
        for each in json.loads(run("-C", str(root), "list", "--json", env=surroundings).stdout)
    }
    ends = {name: (task["state"], task["outcome"]) for name, task in tasks.items()}
    assert ends == {
        "mean-error.patch": ("done", "merged"),
        "mean-zero.patch": ("needs_human", None),
        "whole-total.patch": ("needs_human", None),
        "ideas.md": ("done", "noop"),
    }
    with StoreReader(Workspace.at(root).database) as store:
        questions = {
            name: [row["question"] for row in store.checkpoints(task["id"])]
            for name, task in tasks.items()
        }
        events = [event for task in tasks.values() for event in store.events(task["id"])]
    assert [len(asked) for asked in questions.values()] == [0, 1, 1, 0]
    assert "CONFLICT (content): Merge conflict in stats.py" in questions["mean-zero.patch"][0]
    assert "AssertionError: 0 != 0.75" in questions["whole-total.patch"][0]

    landed = tasks["mean-error.patch"]["merge_commit"]
    assert f"commit {landed[:10]}" in done.stdout
    for event in events:
        step = " → ".join(filter(None, (event["from_state"], event["to_state"])))
        assert step in done.stdout
    assert done.stdout.count(" → ") == sum(event["from_state"] is not None for event in events)
    assert "\x1b" not in done.stdout
    assert not is_locked(Workspace.at(root))


def test_what_it_leaves_can_be_used(tmp_path: Path, surroundings: dict[str, str]) -> None:
    root = tmp_path / "d"
    told = run("demo", str(root), env=surroundings).stdout
    here = f"alluvium-like -C {root}"
    commands = [
        line.strip().removeprefix(here).split("   ")[0].split()
        for line in told.splitlines()
        if line.startswith(f"  {here} ")
    ]
    assert [command[0] for command in commands] == [
        *("show", "log", "start", "answer", "status", "stop")
    ]
    for command in commands:
        done = run("-C", str(root), *command, env=surroundings)
        assert (done.returncode, done.stderr) == (0, ""), command
    git = ["git", "-C", str(root / "repo")]
    plain = {key: text for key, text in surroundings.items() if key != "GIT_DIR"}
    subjects = subprocess.check_output([*git, "log", "--format=%s"], env=plain, text=True)
    assert subjects.splitlines()[:2] == ["Refuse the mean of nothing", "Add small statistics"]
    assert subprocess.check_output([*git, "status", "--porcelain"], env=plain) == b""
    subprocess.run([sys.executable, "-B", "-m", "unittest", "-q"], cwd=root / "repo", check=True)


@pytest.mark.parametrize("until", ["workspace", "queued → running"])
def test_an_interrupt_stops_the_daemon_and_keeps_the_folder(
    tmp_path: Path, surroundings: dict[str, str], until: str
) -> None:
    with playing(surroundings | {"TMPDIR": str(tmp_path)}, until=until) as demo:
        (root,) = tmp_path.glob("alluvium-like-demo-*")
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=PROMISED_SECONDS)
    assert (demo.returncode, err) == (130, "")
    assert not is_locked(Workspace.at(root))
    assert not Workspace.at(root).pid_file.exists()
    assert (root / "config.toml").exists()


def test_a_daemon_that_dies_is_told_in_one_line(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    root = tmp_path / "d"
    with playing(surroundings, str(root), until="queued → running") as demo:
        pid = daemon_pid(root)
        gone = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            assert select.select([gone], [], [], PROMISED_SECONDS)[0]
        finally:
            os.close(gone)
        _, err = demo.communicate(timeout=PROMISED_SECONDS)
    assert demo.returncode == 1
    (line,) = err.splitlines()
    assert line.startswith("alluvium-like: the daemon ended in the middle of the demo; see ")


@pytest.mark.parametrize("kind", ["folder", "file", "workspace", "dangling link"])
def test_a_place_that_is_taken_is_refused_and_left_alone(
    tmp_path: Path, surroundings: dict[str, str], kind: str
) -> None:
    place = tmp_path / "taken"
    match kind:
        case "folder":
            place.mkdir()
            (place / "mine").write_text("x")
        case "file":
            place.write_text("x")
        case "workspace":
            assert run("init", str(place), env=surroundings).returncode == 0
        case _:
            place.symlink_to(tmp_path / "nowhere")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    done = run("demo", str(place), env=surroundings)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith(f"alluvium-like: {place}: ")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
