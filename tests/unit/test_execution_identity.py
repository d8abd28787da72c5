"""Identities, marks and inherited children, against real processes."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from alluvium_like.execution import marker, table
from alluvium_like.execution.adopt import (
    adopted_children,
    become_subreaper,
    bury_child,
    is_subreaper,
    own_children,
    start_child,
)
from alluvium_like.execution.identity import (
    ProcessIdentity,
    identity_of,
    is_alive,
    open_pidfd,
    send_signal,
)
from alluvium_like.execution.marker import RunKind, RunMarker, marked_processes, marker_of

HERE = uuid.uuid4().hex


@contextmanager
def sleeper(
    environment: dict[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], ProcessIdentity]]:
    with subprocess.Popen(["/bin/sleep", "60"], env=environment or {}) as process:
        try:
            identity = identity_of(process.pid)
            assert identity is not None
            yield process, identity
        finally:
            process.kill()


def wait_until_ended(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_an_identity_is_the_same_while_it_lives_and_not_alive_after_its_end() -> None:
    with sleeper() as (process, identity):
        assert identity_of(process.pid) == identity
        assert is_alive(identity)
        process.kill()
        wait_until_ended(process.pid)
        assert identity_of(process.pid) == identity  # a zombie still holds its pid
        assert not is_alive(identity)
    assert identity_of(process.pid) is None
    assert not is_alive(identity)


@pytest.mark.parametrize("without_pidfd", [False, True])
def test_a_stranger_with_the_pid_is_never_signalled(
    without_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    with sleeper() as (process, identity):
        for forged in (replace(identity, started="1"), replace(identity, boot_id="another")):
            assert not is_alive(forged)
            assert not send_signal(forged, signal.SIGKILL)
        assert process.poll() is None
        assert send_signal(identity, signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        assert not send_signal(identity, signal.SIGTERM)


def test_a_descriptor_of_nobody() -> None:
    with sleeper() as (process, _):
        process.kill()
    with pytest.raises(ProcessLookupError):
        open_pidfd(process.pid)


def test_a_name_with_parentheses_and_spaces_is_no_riddle(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as process:
        try:
            row = table.read_row(process.pid)
            assert row is not None
            assert (row.parent, row.session) == (os.getpid(), os.getsid(0))
        finally:
            process.kill()


def test_the_portable_reading_agrees() -> None:
    with sleeper({"ALLUVIUM_RUN": f"{HERE}/test/x/1"}) as (process, _):
        native, portable = table.read_row(process.pid), table._portable_row(process.pid)
        assert native is not None
        assert portable is not None
        assert replace(native, started="") == replace(portable, started="")
        assert [found.pid for found in marked_processes(HERE)] == [process.pid]
        assert marker._portable_marker(process.pid) == marker_of(process.pid) == f"{HERE}/test/x/1"
        process.kill()
        wait_until_ended(process.pid)
        dead = table._portable_row(process.pid)
        assert dead is not None
        assert dead.dead
    assert table._portable_row(process.pid) is None
    assert marker._portable_marker(process.pid) == ""
    assert marker_of(process.pid) is None


def test_marks_are_found_by_whole_parts_only() -> None:
    run = RunMarker(HERE, RunKind.ATTEMPT, "20260516T101530Z-x-abcdef", 1)
    assert str(run) == f"{HERE}/attempt/20260516T101530Z-x-abcdef/1"
    with (
        sleeper({"ALLUVIUM_RUN": f"{run}1"}) as (_, eleven),
        sleeper({"ALLUVIUM_RUN": str(run)}) as (_, one),
    ):
        assert marked_processes(str(run)) == [one]
        assert set(marked_processes(HERE)) == {one, eleven}
        assert marked_processes(HERE[:-1]) == []


@pytest.fixture
def _subreaper() -> None:
    if not become_subreaper():
        pytest.skip("needs a sub-reaper")
    assert is_subreaper()


ORPHAN = """
import os, sys
if os.fork() == 0:
    os.setsid()
    {act}
"""


def leave_orphan(act: str) -> None:
    argv = [sys.executable, "-S", "-c", ORPHAN.format(act=act)]
    subprocess.run(argv, check=True, start_new_session=True)


@pytest.mark.usefixtures("_subreaper")
def test_orphans_are_inherited_seen_and_reaped() -> None:
    leave_orphan("os.execv('/bin/sleep', ['sleep', '60'])")
    (orphan,) = adopted_children()
    os.kill(orphan.pid, signal.SIGKILL)
    wait_until_ended(orphan.pid)
    assert adopted_children() == []
    assert table.read_row(orphan.pid) is None


@pytest.mark.usefixtures("_subreaper")
def test_own_children_are_neither_inherited_nor_stolen() -> None:
    child = start_child(
        ["/bin/sh", "-c", "exit 7"],
        cwd=None,
        environment={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with subprocess.Popen(["/bin/sh", "-c", "exit 8"]) as foreign:
        assert own_children() == {child.pid}
        wait_until_ended(child.pid)
        wait_until_ended(foreign.pid)
        assert adopted_children() == []
        assert bury_child(child) == 7
        assert foreign.wait() == 8
    assert own_children() == set()


@pytest.mark.usefixtures("_subreaper")
def test_asking_for_inherited_children_costs_next_to_nothing() -> None:
    adopted_children()
    begun = time.thread_time()
    for _ in range(100):
        adopted_children()
    assert (time.thread_time() - begun) / 100 < 0.001
