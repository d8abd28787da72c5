"""Short commands against real processes: what they return, and that nothing holds them up."""

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from blockbuster import blockbuster_ctx

from alluvium_like.execution.adopt import own_children
from alluvium_like.execution.identity import ProcessIdentity, identity_of
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.quick import CommandTimedOut, Completed, run_quick


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    with blockbuster_ctx("alluvium_like"):
        yield
    assert own_children() == set()


async def quick(
    *argv: str, stdin: bytes | None = None, timeout_seconds: float = 30.0, cwd: Path | None = None
) -> Completed:
    return await run_quick(
        list(argv),
        cwd=cwd,
        environment={"PATH": os.defpath},
        stdin=stdin,
        timeout_seconds=timeout_seconds,
        marker=None,
    )


async def pids_in(path: Path, count: int) -> list[ProcessIdentity]:
    """Read `count` pids that a shell writes to a FIFO."""

    def read() -> list[ProcessIdentity]:
        with path.open() as fifo:
            pids = [int(fifo.readline()) for _ in range(count)]
        return [identity for pid in pids if (identity := identity_of(pid))]

    return await to_thread.run_sync(read)


async def end_of(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    await anyio.wait_readable(pidfd)
    os.close(pidfd)


async def test_it_returns_code_and_output() -> None:
    done = await quick("sh", "-c", "cat; echo oops >&2; exit 4", stdin=b"in\0put")
    assert done == Completed(4, b"in\0put", b"oops\n")
    assert await quick("cat") == Completed(0, b"", b"")
    assert (await quick("sh", "-c", "kill -9 $$")).code == -9


async def test_git_works_where_it_is_told(tmp_path: Path) -> None:
    assert (await quick("git", "init", "-q", cwd=tmp_path)).code == 0
    written = await quick("git", "hash-object", "-w", "--stdin", stdin=b"x\n", cwd=tmp_path)
    blob = written.stdout.decode().strip()
    read = await quick("git", "cat-file", "--batch", stdin=f"{blob}\n".encode(), cwd=tmp_path)
    assert read.stdout == f"{blob} blob 2\nx\n\n".encode()


async def test_the_mark_is_added() -> None:
    marker = RunMarker("9d1c", RunKind.GIT, "lane", 7)
    done = await run_quick(
        ["/usr/bin/env"], cwd=None, environment={"A": "b"}, timeout_seconds=30, marker=marker
    )
    assert sorted(done.stdout.split()) == [b"A=b", b"ALLUVIUM_RUN=9d1c/git/lane/7"]


async def test_large_input_and_output() -> None:
    data = os.urandom(1 << 20) * 20
    assert (await quick("cat", stdin=data)).stdout == data


async def test_whoever_inherits_the_output_does_not_delay_the_end() -> None:
    with anyio.fail_after(10):
        done = await quick("sh", "-c", "sleep 20 & echo $!")
    os.kill(int(done.stdout), 9)


async def test_the_deadline_kills_the_group(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = f"exec 3>{fifo}; echo $$ >&3; sleep 60 & echo $! >&3; trap '' TERM; wait"
    seen: list[ProcessIdentity] = []

    async def look() -> None:
        seen.extend(await pids_in(fifo, 2))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        with pytest.raises(CommandTimedOut, match=r"took longer than 0\.3 s") as raised:
            await quick("sh", "-c", text, timeout_seconds=0.3)
    assert isinstance(raised.value, TimeoutError)
    assert len(seen) == 2
    with anyio.fail_after(10):  # the others of the group have their signal and are not waited for
        await end_of(seen[0].pid)
        await end_of(seen[1].pid)


async def test_cancellation_kills_and_reaps(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            quick, "sh", "-c", f"trap '' TERM; echo $$ >{fifo}; while :; do wait; sleep 60; done"
        )
        (main,) = await pids_in(fifo, 1)
        tasks.cancel_scope.cancel()
    assert await to_thread.run_sync(identity_of, main.pid) is None


async def test_what_is_cancelled_may_take_its_lock_away(tmp_path: Path) -> None:
    fifo, lock = tmp_path / "fifo", tmp_path / "lock"
    os.mkfifo(fifo)
    script = f"trap 'rm {lock}; exit' TERM; touch {lock}; echo $$ >{fifo}; sleep 60 & wait"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(quick, "sh", "-c", script)
        await pids_in(fifo, 1)
        tasks.cancel_scope.cancel()
    assert not lock.exists()


async def test_many_at_once() -> None:
    outputs: list[bytes] = []

    async def one(number: int) -> None:
        outputs.append((await quick("echo", str(number))).stdout)

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(one, number)
    assert sorted(map(int, outputs)) == list(range(60))


async def test_without_process_descriptors_it_works_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert (await quick("echo", "yes")).stdout == b"yes\n"
    with pytest.raises(CommandTimedOut):
        await quick("sleep", "60", timeout_seconds=0.05)


async def test_a_missing_command_is_the_callers_affair() -> None:
    before = await to_thread.run_sync(os.listdir, "/proc/self/fd")
    with pytest.raises(FileNotFoundError, match="no-such-command-at-all"):
        await quick("no-such-command-at-all")
    assert len(await to_thread.run_sync(os.listdir, "/proc/self/fd")) == len(before)
