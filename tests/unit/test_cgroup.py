"""Where the group of a box is made, on files that look like the kernel's."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from alluvium_like.sandbox import cgroup
from alluvium_like.sandbox.box import Limits


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the kernel says of us and of process 7, both in one group of version 2."""
    found = tmp_path / "proc"
    (found / "self").mkdir(parents=True)
    (found / "self" / "mountinfo").write_text(
        f"30 20 0:26 / {tmp_path / 'root'} rw - cgroup2 cgroup2 rw\n"
    )
    for pid in (os.getpid(), 7):
        (found / str(pid)).mkdir()
        (found / str(pid) / "cgroup").write_text("0::/session\n")
    monkeypatch.setattr(cgroup, "_PROC", found)
    cgroup.controllers.cache_clear()
    yield found
    cgroup.controllers.cache_clear()


@pytest.fixture
def own(proc: Path) -> Path:
    """That group: it was delegated, and we are in it."""
    session = proc.parent / "root" / "session"
    session.mkdir(parents=True)
    (session / "cgroup.controllers").write_text("cpu memory pids\n")
    (session / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return session


def test_who_only_asks_what_keeps_the_limits_moves_nothing(own: Path) -> None:
    assert "control group" in cgroup.enforced(None)["memory"]
    assert sorted(each.name for each in own.iterdir()) == ["cgroup.controllers", "cgroup.procs"]


def test_what_keeps_the_limits_is_told_of_the_daemon_that_runs(own: Path, proc: Path) -> None:
    """And not of the terminal where somebody asks."""
    assert "control group" not in cgroup.enforced(7)["memory"]
    (own / "cgroup.subtree_control").write_text("memory pids\n")
    assert "control group" in cgroup.enforced(7)["memory"]
    (proc / "7" / "cgroup").write_text("0::/elsewhere\n")
    assert "control group" not in cgroup.enforced(7)["memory"]
    assert "control group" in cgroup.enforced(None)["memory"]


def test_who_makes_boxes_steps_aside_once(own: Path, proc: Path) -> None:
    (found,) = cgroup.controllers()
    assert found.folder == own
    assert (own / "alluvium-daemon" / "cgroup.procs").read_text() == str(os.getpid())
    # Whoever is started from there, as the next daemon may be, finds the same place.
    (proc / str(os.getpid()) / "cgroup").write_text("0::/session/alluvium-daemon\n")
    cgroup.controllers.cache_clear()
    assert cgroup.controllers() == (found,)
    assert not (own / "alluvium-daemon" / "alluvium-daemon").exists()


def test_nobody_elses_process_is_moved(own: Path) -> None:
    """As the programs of a terminal, which share a group with what is started there."""
    (own / "cgroup.procs").write_text(f"{os.getppid()}\n{os.getpid()}\n")
    assert cgroup.controllers() == ()
    assert "control group" not in cgroup.enforced(None)["memory"]
    assert not (own / "alluvium-daemon").exists()


def test_what_we_started_is_moved_with_us(own: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        (own / "cgroup.procs").write_text(f"{os.getpid()}\n{child.pid}\n")
        assert [each.folder for each in cgroup.controllers()] == [own]
        child.kill()


def test_a_group_that_was_taken_back_is_divided_again(own: Path) -> None:
    """As `systemctl daemon-reload` does with units that do not ask for it."""
    assert cgroup.controllers()
    told = own / "cgroup.subtree_control"
    told.write_text("")
    group = cgroup.Group.make(Limits(processes=7, memory_bytes=9), "a run")
    assert told.read_text() == "+memory +pids"
    (folder,) = group.folders
    assert (folder / "pids.max").read_text() == "7"


def test_a_group_that_cannot_be_limited_is_not_left(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cgroup.controllers()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cgroup, "_limit", refuse)
    with pytest.raises(PermissionError):
        cgroup.Group.make(Limits(processes=7), "a run")
    assert [each.name for each in own.iterdir() if each.is_dir()] == ["alluvium-daemon"]
