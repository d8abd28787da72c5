"""Where the group of a box is made, on files that look like the kernel's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alluvium_like.sandbox import cgroup


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A group of version 2 that was delegated, with one process in it: ours."""
    root, session = tmp_path / "root", tmp_path / "root" / "session"
    session.mkdir(parents=True)
    (session / "cgroup.controllers").write_text("cpu memory pids\n")
    (session / "cgroup.procs").write_text("7\n")
    (tmp_path / "mounts").write_text(f"30 20 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cgroup").write_text("0::/session\n")
    monkeypatch.setattr(cgroup, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "cgroup")
    cgroup.controllers.cache_clear()
    yield session
    cgroup.controllers.cache_clear()


def test_who_only_asks_what_keeps_the_limits_moves_nothing(own: Path) -> None:
    assert "control group" in cgroup.enforced()["memory"]
    assert sorted(each.name for each in own.iterdir()) == ["cgroup.controllers", "cgroup.procs"]


def test_who_makes_boxes_steps_aside_once(own: Path, tmp_path: Path) -> None:
    (found,) = cgroup.controllers()
    assert found.folder == own
    assert (own / "alluvium-daemon" / "cgroup.procs").read_text() == "7"
    # Whoever is started from there, as the next daemon may be, finds the same place.
    (tmp_path / "cgroup").write_text("0::/session/alluvium-daemon\n")
    cgroup.controllers.cache_clear()
    assert cgroup.controllers() == (found,)
    assert not (own / "alluvium-daemon" / "alluvium-daemon").exists()
