"""Killed or refused at durable system calls of one task's life: a sample, and that it is one.

All of them: `contrib/faults/syscalls.py --all`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SWEEP = ("contrib/faults/syscalls.py", "--jobs", "2")
SAMPLE_SECONDS = 20
# The folders that are synced between the rename of a claim and the row of its task.
AT_A_CLAIM = ("--all", "--kinds", "tree-before", "--place", " fsync /tasks")
PATIENCE_SECONDS = 240.0

pytestmark = [
    pytest.mark.timeout(PATIENCE_SECONDS + 10),
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("cc") is None,
        reason="the library that counts system calls needs Linux and a C compiler (cc)",
    ),
]


def test_a_sample_of_all_strikes_loses_nothing() -> None:
    done = sweep(ROOT, "--sample", "--seconds", str(SAMPLE_SECONDS), "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_claim_that_is_cut_off_after_its_rename_is_finished() -> None:
    done = sweep(ROOT, *AT_A_CLAIM)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 3 | 3 | 0 | 0 | 0 |" in done.stdout, "every one of the three struck and killed"


def test_a_git_that_is_killed_is_nobodys_fault() -> None:
    made = ("--place", "g git mkdir /.alluvium/integration.git/objects")
    done = sweep(ROOT, "--all", "--kinds", "self-after", *made)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| self-after |" in done.stdout


def test_a_landing_whose_git_is_killed_after_the_base_moved_leaves_no_lock_to_the_owner() -> None:
    moved = ("--place", "g git rename /repo/.git/refs/heads/main")
    done = sweep(ROOT, "--all", "--kinds", "self-after", *moved)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 1 | 1 | 0 |" in done.stdout, "one strike, and it struck"


def test_a_file_that_neither_gets_its_name_nor_can_be_deleted_goes_when_the_disk_works() -> None:
    done = sweep(ROOT, "--all", "--kinds", "EIOx5", "--place", "renameat command.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 1 | 1 | 0 |" in done.stdout, "one strike, and it struck"


def test_a_log_that_cannot_be_written_is_no_reason_to_fill_another() -> None:
    done = sweep(ROOT, "--all", "--kinds", "ENOSPC", "--place", "write /logs/daemon.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| ENOSPC |" in done.stdout


def test_a_file_for_people_that_cannot_be_placed_leaves_no_half_of_it() -> None:
    done = sweep(ROOT, "--all", "--kinds", "ENOSPC", "--place", "write /tasks/TASK/.system/.patch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 1 | 1 | 0 |" in done.stdout, "one strike, and it struck"


def test_a_sweep_sees_a_daemon_that_loses_an_item(tmp_path: Path) -> None:
    """The daemon's start does nothing about half claims: what the strike leaves stays as it is."""
    for folder in ("alluvium_like", "contrib/faults", "tests/scenario"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    broken = tmp_path / "alluvium_like" / "supervisor.py"
    text = broken.read_text()
    cure = "        await Intake(parts).finish_half_claims()\n"
    assert text.count(cure) == 1
    broken.write_text(text.replace(cure, ""))
    done = sweep(tmp_path, *AT_A_CLAIM)
    assert done.returncode == 1, done.stderr
    assert "a claim was left" in done.stdout
    assert "python contrib/faults/syscalls.py --strike tree-before@" in done.stdout


def sweep(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the sweep of a tree on the program in that tree."""
    argv = [sys.executable, *SWEEP, *options]
    return subprocess.run(
        argv,
        cwd=tree,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
