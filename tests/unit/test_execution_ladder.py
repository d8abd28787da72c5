"""The ladder and the search for what an earlier daemon left, against real processes."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from structlog.testing import capture_logs

from alluvium_like.execution import ladder
from alluvium_like.execution.adopt import bury_child, start_child
from alluvium_like.execution.identity import ProcessIdentity, identity_of, is_alive
from alluvium_like.execution.ladder import end_processes
from alluvium_like.execution.marker import marked_processes
from alluvium_like.execution.recover import survivors_of

HERE = uuid.uuid4().hex
MARK = {"ALLUVIUM_RUN": f"{HERE}/attempt/t/1"}


@contextmanager
def standing(
    argv: list[str], environment: dict[str, str] | None = None
) -> Iterator[ProcessIdentity]:
    """Yield a process, leader of its session, that has printed a line, and is reaped afterwards."""
    with subprocess.Popen(
        argv, env=environment or {}, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            identity = identity_of(process.pid)
            assert identity is not None
            yield identity
        finally:
            process.kill()


POLITE = [
    "/bin/sh",
    "-c",
    "trap 'exit 3' TERM; /bin/sh -c 'echo; exec sleep 60' & while :; do wait; done",
]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo; exec sleep 60"]
STANDS = "/bin/sh -c 'echo $$; exec sleep 60'"
LEADER = ["/bin/sh", "-c", f"/usr/bin/env -i {STANDS} & exec sleep 60"]
FORKING = [
    sys.executable,
    "-S",
    "-c",
    "import os, signal, time\nleft = [0, 1]\n"
    "def flee(*_):\n"
    "  signal.pthread_sigmask(signal.SIG_BLOCK, [15])\n"
    "  if not left or left.pop() is None or os.fork(): os._exit(0)\n"
    "  signal.pthread_sigmask(signal.SIG_UNBLOCK, [15])\n"
    "signal.signal(15, flee)\n"
    "print(flush=True)\nwhile True: time.sleep(60)",
]


def code_of(ended: ProcessIdentity) -> int:
    status = os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert status is not None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


async def end_marked(grace_seconds: float, hurry: anyio.Event | None = None) -> int:
    return await end_processes(lambda: marked_processes(HERE), grace_seconds, hurry=hurry)


async def test_the_polite_are_asked_and_the_stubborn_killed() -> None:
    with standing(POLITE, MARK) as polite, standing(STUBBORN, MARK) as stubborn:
        with anyio.fail_after(10):
            assert await end_marked(0.2) == 3
        assert code_of(polite) == 3
        assert not is_alive(stubborn)


async def test_nobody_is_waited_for_longer_than_needed() -> None:
    with standing(POLITE, MARK), anyio.fail_after(10):
        assert await end_marked(60.0) == 2


async def test_no_grace_is_no_question() -> None:
    with standing(POLITE, MARK) as polite:
        await end_marked(0)
        assert code_of(polite) == -9


async def test_hurry_and_cancellation() -> None:
    """Hurry cuts the grace short; cancelling the caller does not leave anybody alive."""
    hurry = anyio.Event()
    with standing(STUBBORN, MARK) as stubborn, anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_marked, 60.0, hurry)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            hurry.set()
        assert not is_alive(stubborn)


async def test_those_that_fork_meanwhile_are_found() -> None:
    with standing(FORKING, MARK):
        assert await end_marked(20.0) == 3
    assert await to_thread.run_sync(marked_processes, HERE) == []


async def test_many_at_once_without_process_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(standing(POLITE, MARK))
        assert await end_marked(20.0) == 10


async def test_who_cannot_be_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_KILL_SECONDS", 0.0)
    with standing(STUBBORN) as stranger:
        forged = replace(stranger, started="1")
        with capture_logs() as logs:
            assert await end_processes(lambda: [forged], 0) == 1
        assert is_alive(stranger)
    assert [(entry["event"], entry["pids"]) for entry in logs] == [
        ("processes_outlived_kill", [stranger.pid])
    ]


@contextmanager
def session(environment: dict[str, str]) -> Iterator[tuple[ProcessIdentity, ProcessIdentity]]:
    """Yield a leader and an unmarked member of its session."""
    with subprocess.Popen(
        LEADER, env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        member = identity_of(int(process.stdout.readline()))
        leader = identity_of(process.pid)
        assert member is not None
        assert leader is not None
        try:
            yield leader, member
        finally:
            process.kill()
            subprocess.run(["/bin/kill", "-9", str(member.pid)], check=False, capture_output=True)


def test_marked_processes_and_what_hangs_below_them_are_survivors() -> None:
    with session(MARK) as (leader, member):
        assert set(survivors_of(HERE, [])) == {leader, member}
        assert survivors_of(HERE[:-1], []) == []


def test_a_stored_identity_that_lives_brings_its_session() -> None:
    with session({}) as (leader, member):
        assert survivors_of(HERE, []) == []
        assert set(survivors_of(HERE, [leader])) == {leader, member}
        assert survivors_of(HERE, [replace(leader, started="1")]) == []
        assert survivors_of(HERE, [replace(leader, boot_id="another")]) == []


def test_a_session_without_its_leader_counts_only_with_a_mark_in_it() -> None:
    with session({}) as (leader, member):
        os.kill(leader.pid, 9)
        os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
        gone = replace(leader, started="1")
        assert is_alive(member)
        assert survivors_of(HERE, [gone]) == []


def test_a_mark_in_the_session_brings_the_unmarked_members() -> None:
    text = f"env -i {STANDS} & ALLUVIUM_RUN={HERE}/attempt/t/1 {STANDS} &"
    with subprocess.Popen(
        ["/bin/sh", "-c", text], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        leader = identity_of(process.pid)
        assert leader is not None
        members = {identity_of(int(process.stdout.readline())) for _ in range(2)}
        process.wait()
        try:
            assert set(survivors_of(HERE, [leader])) == members
        finally:
            os.killpg(leader.pid, 9)


def test_own_children_and_those_above_are_spared() -> None:
    other = uuid.uuid4().hex
    mark = {"ALLUVIUM_RUN": f"{other}/test/t/1"}
    child = start_child(
        ["/bin/sleep", "60"],
        cwd=None,
        environment=mark,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert [found.pid for found in marked_processes(other)] == [child.pid]
        assert survivors_of(other, []) == []
    finally:
        child.kill()
        bury_child(child)
    ask = (
        "from alluvium_like.execution.recover import survivors_of\n"
        f"print(survivors_of({other!r}, []))"
    )
    asked = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1"; true', sys.executable, ask],
        env={**mark, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == "[]\n"
