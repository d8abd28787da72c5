"""The sweep over named steps: a sample of it, and that it sees what is wrong."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from invariants import Life, violations
from kills import Point, disturbed, undisturbed
from test_kill_rows import OneItem

import alluvium_like
from alluvium_like.execution.marker import MARKER_VARIABLE
from alluvium_like.workspace import Workspace

SWEEP = Path(__file__).parents[2] / "contrib" / "faults" / "sweep.py"


@pytest.mark.timeout(300)
def test_a_sample_of_kills_loses_nothing(tmp_path: Path) -> None:
    options = ("--sample", "--seconds", "20", "--seed", "1", "--folder", tmp_path)
    done = subprocess.run(
        [sys.executable, SWEEP, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills that happened"] == found["kills asked for"] > 0, done.stderr
    assert (found["never reached"], found["violations"]) == ([], {})
    assert list(tmp_path.iterdir()) == [], "the workspaces are gone"


class Forgetful(OneItem):
    """Its daemon does not look for claims that were cut off."""

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start a daemon without that part."""
        mutant = self.place / "mutant" / "alluvium_like"
        if not mutant.exists():
            shutil.copytree(Path(alluvium_like.__file__).parent, mutant)
            claiming = mutant / "stages" / "claiming.py"
            whole = claiming.read_text()
            assert whole.count("in await parts.store.claims():") == 1
            claiming.write_text(whole.replace("in await parts.store.claims():", "in ():"))
        super().start({**(environment or {}), "PYTHONPATH": str(mutant.parent)})


def test_a_daemon_that_forgets_its_claims_is_seen(tmp_path: Path) -> None:
    template = Forgetful.template(tmp_path / "template")
    _, wanted = undisturbed(template, tmp_path / "whole")
    point = Point.parse("claim.rename@1:before")
    ended = disturbed(template, tmp_path / "life", [point], wanted)
    assert ended.reached == (point,)
    assert any("a claim was left" in fault for fault in ended.faults), ended.faults


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> OneItem:
    """A life that has come to a good end."""
    place = tmp_path_factory.mktemp("whole")
    life = OneItem.template(place / "template").begin(place / "life")
    try:
        life.start()
        life.live()
        assert violations(life.life()) == []
    finally:
        life.end()
    return life


def lose(life: Life) -> None:
    item(life).unlink()


def change(life: Life) -> None:
    item(life).write_text("other")


def double(life: Life) -> None:
    shutil.copy(item(life), life.root / "inbox")


def leave_a_claim(life: Life) -> None:
    rows(life, "INSERT INTO claims VALUES ('t', X'74', 1, 1, 0, 'now')")


def leave_a_worktree(life: Life) -> None:
    (life.root / "worktrees" / "t").mkdir()


def leave_a_lock(life: Life) -> None:
    (life.repo / ".git" / "index.lock").touch()


def forget_an_end(life: Life) -> None:
    rows(life, "UPDATE attempts SET ended_at = NULL")


def forget_a_landing(life: Life) -> None:
    rows(life, "UPDATE tasks SET outcome = 'noop'")


def move_the_base_back(life: Life) -> None:
    git(life, "update-ref", "-m", "back", "refs/heads/main", "main~1")


def land_again(life: Life) -> None:
    message = git(life, "log", "-1", "--format=%B", "main")
    again = git(life, "commit-tree", "main^{tree}", "-p", "main", "-m", message)
    git(life, "update-ref", "-m", "again", "refs/heads/main", again)


def skip_the_tests(life: Life) -> None:
    assert life.tested is not None
    life.tested.unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose, "t was dropped 1 times and is in 0 places"),
        (change, "something that nobody dropped, or not whole"),
        (double, "t was dropped 1 times and is in 2 places"),
        (leave_a_claim, "a claim was left: t"),
        (leave_a_worktree, "nobody works there any more"),
        (leave_a_lock, "a leftover"),
        (forget_an_end, "never ended"),
        (forget_a_landing, "which is not merged"),
        (move_the_base_back, "main of"),
        (land_again, "landed 2 times"),
        (skip_the_tests, "landed untested"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whatever_is_wrong_is_told(
    whole: OneItem, tmp_path: Path, harm: Callable[[Life], None], said: str
) -> None:
    shutil.copytree(whole.place, tmp_path / "copy", symlinks=True)
    root = tmp_path / "copy" / whole.root.name
    life = replace(
        whole.life(),
        root=root,
        repo=root / "repo",
        tested=tmp_path / "copy" / "open" / "tested",
        remote=tmp_path / "copy" / "origin.git",
    )
    assert violations(life) == []
    harm(life)
    assert any(said in each for each in violations(life)), violations(life)


def test_a_process_that_outlives_its_run_is_told(whole: OneItem) -> None:
    (workspace_id,) = rows(whole.life(), "SELECT value FROM meta WHERE key = 'workspace_id'")
    marked = {**os.environ, MARKER_VARIABLE: f"{workspace_id}/attempt/t/1"}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=marked) as cat:
        told = violations(whole.life())
        cat.kill()
    assert [each for each in told if "outlived its run" in each] == told != []


def item(life: Life) -> Path:
    return next(life.root.glob("tasks/*/input/t"))


def rows(life: Life, sql: str) -> list[str]:
    with closing(sqlite3.connect(Workspace(life.root).database)) as db, db:
        return [row[0] for row in db.execute(sql)]


def git(life: Life, *words: str) -> str:
    argv = ["git", "-c", "user.name=x", "-c", "user.email=x@x", *words]
    done = subprocess.run(argv, cwd=life.repo, capture_output=True, text=True, check=True)
    return done.stdout.strip()
