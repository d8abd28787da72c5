"""Mistakes: each is one clear line, the right exit code, and never a traceback."""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from bed import PROGRAM, Bed
from test_intake import unwritable

BROKEN_CONFIGS: list[tuple[bytes, list[str]]] = [
    (
        b'[agnet]\n[agent]\nretries = "x"\ncommand = "sh"\n[safety]\nmax_worker = 1\n',
        [
            "[agent].command: not a list",
            "[agent].retries: not a whole number",
            "[safety].max_worker: unknown key; did you mean 'max_workers'?",
            "[agnet]: unknown table; did you mean 'agent'?",
        ],
    ),
    (b"not = toml = at all", ["not valid TOML"]),
    (b"\xff\xfe", ["not UTF-8 text"]),
    (b'[integration]\nrun_tests = [{comand = "x"}]', ["comand", "run_tests[0]"]),
]


def one_line(bed: Bed, *args: str, code: int = 1) -> str:
    """Run one command that must end with one line on stderr and nothing on stdout."""
    done = bed.run(*args, cwd=bed.root.parent)
    assert done.returncode == code, (args, done)
    assert done.stdout == "", args
    assert done.stderr.startswith("alluvium-like: "), args
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def workspace(bed: Bed) -> tuple[str, str]:
    return "-C", str(bed.root)


def doctor(bed: Bed) -> dict[str, str]:
    """Return what doctor says of everything that fails."""
    done = bed.run(*workspace(bed), "doctor")
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line for line in done.stdout.splitlines() if line.startswith("fail ")]
    return {name.removeprefix("fail").strip(): what for name, _, what in map(_parted, lines)}


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(": ")


def test_wrong_usage_is_told_apart(bed: Bed) -> None:
    bed.make()
    loop = bed.root.parent / "loop"
    loop.symlink_to(loop)
    for args in (
        ["nosuch"],
        ["status", "--nosuch"],
        ["status", "superfluous"],
        ["show"],
        ["answer", "task"],
        ["list", "--state", "nosuch"],
        ["stop", "--timeout", "soon"],
        ["stop", "--timeout", "-1"],
        ["-C"],
        ["-C", "loop", "status"],
        ["init", "loop"],
        ["init", "new", "--repo", "loop"],
    ):
        done = bed.run(*args, cwd=bed.root.parent)
        assert (done.returncode, done.stdout) == (2, ""), args
        *usage, error = done.stderr.splitlines()
        assert error.startswith("Error: "), args
        assert not usage or usage[0].startswith("Usage: alluvium-like "), args
    assert not (bed.root.parent / "new").exists()


def test_a_folder_that_is_no_workspace_is_named(bed: Bed) -> None:
    here = bed.root.parent
    (here / "file").touch()
    for name, command in ((".", "status"), ("nowhere", "start"), ("file", "stop")):
        assert f"{here / name} is not a workspace" in one_line(bed, "-C", name, command)
    assert "File name too long" in one_line(bed, "-C", "x" * 300, "serve")
    assert f"{here} is not in a workspace" in one_line(bed, "status")
    assert not (here / "nowhere").exists()


def test_init_refuses_what_cannot_become_a_workspace(bed: Bed) -> None:
    here = bed.root.parent
    (here / "full").mkdir()
    (here / "full" / "mine").touch()
    (here / "file").touch()
    subprocess.run(["git", "init", "-q", "empty"], cwd=here, check=True)
    before = sorted(here.rglob("*"))
    assert "neither empty nor a workspace" in one_line(bed, "init", "full")
    assert "Not a directory" in one_line(bed, "init", "file")
    for repo in ("nowhere", "file", "full"):
        assert f"{here / repo}: " in one_line(bed, "init", "new", "--repo", repo)
    assert "no commits yet" in one_line(bed, "init", "new", "--repo", "empty")
    assert "did you mean 'claude'" in one_line(bed, "init", "new", "--agent", "cluade", code=2)
    assert sorted(here.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_named(bed: Bed) -> None:
    bed.make()
    (bed.root / "inbox").rmdir()
    locked = bed.root.parent / "locked"
    locked.mkdir()
    with unwritable(locked), unwritable(bed.root):
        assert str(locked) in one_line(bed, "init", "locked")
        assert str(locked) in one_line(bed, "init", "locked/new")
        for command in ("start", "run-once"):
            assert f"{bed.root / 'inbox'}: " in one_line(bed, *workspace(bed), command)
        assert "no such folder" in one_line(bed, *workspace(bed), "example-task")
        assert "workspace" in doctor(bed)
        bed.json("status")


@pytest.mark.parametrize(("text", "problems"), BROKEN_CONFIGS)
def test_every_problem_of_a_configuration_is_told(
    bed: Bed, text: bytes, problems: list[str]
) -> None:
    bed.make()
    (bed.root / "config.toml").write_bytes(text)
    done = bed.run(*workspace(bed), "start")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.removeprefix("alluvium-like: ").splitlines()
    assert all(line.startswith("config.toml: ") for line in lines)
    assert all(problem in done.stderr for problem in problems)
    assert len(lines) <= len(problems)


def test_what_the_daemon_needs_and_does_not_find_is_named(bed: Bed) -> None:
    bed.make()
    for config, named in (
        ('[repo]\npath = "/nowhere"', "/nowhere"),
        ('[repo]\npath = "inbox"', "inbox"),
        ('[integration]\nbase_branch = "trunk"', "'trunk'"),
    ):
        bed.configure(config)
        assert named in one_line(bed, *workspace(bed), "serve")
        assert named in doctor(bed)["repository"]

    bed.configure('[agent]\ncommand = ["no-such-agent"]')
    assert "no-such-agent" in doctor(bed)["agent default"]
    bed.drop("t")
    bed.cli("run-once")
    task = bed.task("t")
    assert task["state"] == "failed"
    assert "could not be started" in task["reason"]
    assert "no-such-agent" in task["reason"]


def test_without_git_everything_says_so(bed: Bed) -> None:
    bed.make()
    bed.environment["PATH"] = "/nowhere"
    for command in ("start", "run-once"):
        assert "git cannot be run" in one_line(bed, *workspace(bed), command)
    assert "git is not on PATH" in one_line(bed, "init", "new")
    assert not (bed.root.parent / "new").exists()
    assert "git is not on PATH" in doctor(bed)["git"]
    bed.json("status")


def test_a_store_that_cannot_be_trusted_is_left_as_it_is(bed: Bed) -> None:
    bed.make()
    bed.drop("t")
    bed.cli("run-once")
    store = bed.root / ".alluvium" / "alluvium.db"
    shutil.copy(store, store.with_suffix(".good"))

    with sqlite3.connect(store) as db:
        db.execute("INSERT INTO schema_migrations VALUES (9999, 'from_the_future', '')")
    db.close()
    newer = store.read_bytes()
    for command in ("start", "pause"):
        said = one_line(bed, *workspace(bed), command)
        assert "made by a newer version (schema 9999" in said
    assert store.read_bytes() == newer

    size = len(newer)
    for damage in (b"not a database" * 100, newer[: size // 2] + b"\xa5" * (size - size // 2)):
        store.write_bytes(damage)
        for command in ("start", "pause"):
            said = one_line(bed, *workspace(bed), command)
            assert f"{store}: " in said
            assert "the file was left as it is" in said
        assert store.read_bytes() == damage
    store.write_bytes(b"not a database" * 100)
    for command in ("status", "list", "show"):
        more = ["t"] if command == "show" else []
        assert f"{store}: cannot be read" in one_line(bed, *workspace(bed), command, *more)
    shutil.copy(store.with_suffix(".good"), store)
    assert bed.json("status")["tasks"]["done"] == 1


def test_output_that_cannot_be_put_out_is_no_surprise(bed: Bed) -> None:
    bed.make()
    command = [*PROGRAM, *workspace(bed), "status", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=bed.environment,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "alluvium-like: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            command,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            env=bed.environment,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_an_attempt_that_cannot_be_prepared_leaves_nothing_behind(bed: Bed) -> None:
    bed.make()
    template = bed.root / "prompt.md"
    template.unlink()
    template.mkdir()
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "failed")
    assert "could not be prepared" in bed.task("t")["reason"]
    bed.stop()
    for folder in ("worktrees", ".alluvium/workshops"):
        assert not list((bed.root / folder).iterdir())
