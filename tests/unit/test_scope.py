"""When a daemon that is started by hand gets a scope of systemd's."""

import getpass
import os
import subprocess
from pathlib import Path

import pytest

from alluvium_like.surface import scope

RUNS = '#!/bin/sh\necho "$*" >> {log}\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system of systemd's, whose systemd-run notes what it is asked and then runs it."""
    program, noted = tmp_path / "bin" / "systemd-run", tmp_path / "log"
    program.parent.mkdir()
    program.write_text(RUNS.format(log=noted))
    program.chmod(0o755)
    for name in ("booted", "linger"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(scope, "can_be_made", lambda: False)
    monkeypatch.setattr(scope, "_BOOTED", tmp_path / "booted")
    monkeypatch.setattr(scope, "_LINGERING", tmp_path / "linger")
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    return noted


def is_user(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: number)


def test_root_has_a_scope_of_the_system(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_user(monkeypatch, 0)
    words = scope.scoped()
    assert "--user" not in words
    assert "Delegate=yes" in words
    assert subprocess.check_output([*words, "echo", "it runs"], text=True) == "it runs\n"


def test_a_user_has_one_where_it_outlives_the_login(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_user(monkeypatch, 1000)
    assert scope.scoped() == []
    (log.parent / "linger" / "ann").touch()
    assert scope.scoped()[:2] == ["systemd-run", "--user"]


def test_there_is_none_without_need(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_user(monkeypatch, 0)
    monkeypatch.setattr(scope, "can_be_made", lambda: True)
    assert scope.scoped() == []
    assert not log.exists()


def test_there_is_none_where_systemd_does_not_run(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_user(monkeypatch, 0)
    (log.parent / "booted").rmdir()
    assert scope.scoped() == []


def test_a_scope_that_is_refused_keeps_no_daemon_from_starting(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_user(monkeypatch, 0)
    (log.parent / "bin" / "systemd-run").write_text("#!/bin/sh\nexit 1\n")
    assert scope.scoped() == []
