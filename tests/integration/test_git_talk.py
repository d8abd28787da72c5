"""Gits that stay alive: asked one by one, replaced when out of step, never left over."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from blockbuster import blockbuster_ctx

from alluvium_like.errors import GitFailed
from alluvium_like.execution.adopt import own_children
from alluvium_like.execution.quick import CommandTimedOut
from alluvium_like.gitrepo.objects import known_kinds, read_objects, update_refs
from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.talk import Pipe, Talk

CAT_FILE = ("cat-file", "--batch-command")


@pytest.fixture(autouse=True)
def _nothing_blocks_or_is_left() -> Iterator[None]:
    with blockbuster_ctx("alluvium_like"):
        yield
    assert own_children() == set()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.git"
    plain(tmp_path, "init", "-q", "--bare", str(path))
    for number in range(20):
        plain(path, "hash-object", "-w", "--stdin", stdin=f"{number}\n" * 1000)
    return path


@pytest.fixture
async def git(store: Path) -> AsyncIterator[Git]:
    git = Git("test")
    yield git
    await git.close(store)


def plain(folder: Path, *args: str, stdin: str = "") -> str:
    return subprocess.run(
        ["git", *args], cwd=folder, input=stdin, capture_output=True, text=True, check=True
    ).stdout.strip()


def blob(store: Path, number: int) -> str:
    return plain(store, "hash-object", "--stdin", stdin=f"{number}\n" * 1000)


def only_child() -> int:
    (pid,) = own_children()
    return pid


async def waits_for_ever(pipe: Pipe) -> None:
    await pipe.line()


async def test_one_process_answers_many_at_once(git: Git, store: Path) -> None:
    blobs = [await to_thread.run_sync(blob, store, number) for number in range(20)]

    async def ask(number: int) -> None:
        found, missing = await read_objects(git, store, [blobs[number], "1" * 40])
        assert found is not None
        assert (found.kind, found.data) == ("blob", f"{number}\n".encode() * 1000)
        assert missing is None

    async with anyio.create_task_group() as tasks:
        for number in [*range(20)] * 3:
            tasks.start_soon(ask, number)
    first = only_child()
    assert await known_kinds(git, store, [blobs[0], "1" * 40]) == {blobs[0]: "blob"}
    assert only_child() == first
    await git.close(store)
    assert own_children() == set()


async def test_it_is_started_as_every_git_of_ours(git: Git, store: Path) -> None:
    await known_kinds(git, store, ["1" * 40])
    pid = only_child()
    environment = await to_thread.run_sync(Path(f"/proc/{pid}/environ").read_bytes)
    assert b"ALLUVIUM_RUN=test/git/cat-file/0\0" in environment
    assert b"GIT_CONFIG_NOSYSTEM=1\0" in environment
    assert os.getsid(pid) == pid
    words = await to_thread.run_sync(Path(f"/proc/{pid}/cmdline").read_bytes)
    assert b"core.hooksPath=/dev/null" in words


async def test_one_that_died_is_replaced(git: Git, store: Path) -> None:
    await known_kinds(git, store, ["1" * 40])
    first = only_child()
    pidfd = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    await anyio.wait_readable(pidfd)
    os.close(pidfd)
    assert await known_kinds(git, store, ["1" * 40]) == {}
    assert only_child() != first


async def test_one_that_dies_of_a_question_says_why_and_is_replaced(git: Git, store: Path) -> None:
    async def nonsense(pipe: Pipe) -> bytes:
        await pipe.send(b"no such command\n")
        return await pipe.line()

    with pytest.raises(GitFailed, match="unknown command") as raised:
        await git.ask(CAT_FILE, nonsense, store)
    assert raised.value.code == 128
    assert await known_kinds(git, store, ["1" * 40]) == {}


@pytest.mark.parametrize("said", [b"", b"contents HEAD:", b"info " + b"1" * 40 + b"\n"])
async def test_a_cancelled_question_leaves_nothing_out_of_step(
    git: Git, store: Path, said: bytes
) -> None:
    """Whether git has not answered, or has and nobody read it."""
    found = await to_thread.run_sync(blob, store, 3)
    asked = anyio.Event()

    async def half(pipe: Pipe) -> None:
        await pipe.send(said)
        asked.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(git.ask, CAT_FILE, half, store)
        await asked.wait()
        tasks.cancel_scope.cancel()
    assert own_children() == set()
    assert await known_kinds(git, store, [found]) == {found: "blob"}


async def test_who_waits_for_its_turn_may_be_cancelled(git: Git, store: Path) -> None:
    asked = anyio.Event()

    async def slow(pipe: Pipe) -> bytes:
        asked.set()
        await anyio.sleep(0.05)
        await pipe.send(b"info " + b"1" * 40 + b"\n")
        return await pipe.line()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(git.ask, CAT_FILE, slow, store)
        await asked.wait()
        with anyio.move_on_after(0.01) as waited:
            await known_kinds(git, store, ["1" * 40])
        assert waited.cancelled_caught
    assert len(own_children()) == 1


async def test_one_that_does_not_answer_is_ended(store: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    for argv in (["cat"], ["sh", "-c", "trap '' TERM; cat & wait; sleep 60"]):
        talk = Talk(argv, name=argv, cwd=store, environment=environment, timeout_seconds=0.2)
        with pytest.raises(CommandTimedOut, match="took longer"):
            await talk.ask(waits_for_ever)
        assert own_children() == set()


async def test_large_questions_and_answers(git: Git, store: Path) -> None:
    text = "large\n" * 1_000_000
    name = await to_thread.run_sync(
        lambda: plain(store, "hash-object", "-w", "--stdin", stdin=text)
    )
    (found,) = await read_objects(git, store, [name])
    assert found is not None
    assert found.data == text.encode()
    commit = await to_thread.run_sync(make_commit, store)
    refs = [f"refs/{'many' * 30}/{number}" for number in range(500)]
    await update_refs(git, store, [f"update {ref} {commit}" for ref in refs], "tested")
    listed = await to_thread.run_sync(plain, store, "for-each-ref", "--format=%(refname)")
    assert len(listed.split()) == 500


def make_commit(store: Path) -> str:
    tree = plain(store, "hash-object", "-t", "tree", "-w", "/dev/null")
    who = ["-c", "user.name=a", "-c", "user.email=b"]
    return plain(store, *who, "commit-tree", "-m", "x", tree)


async def test_refs_change_together_or_not_at_all(git: Git, store: Path) -> None:
    commit = await to_thread.run_sync(make_commit, store)
    await update_refs(
        git, store, [f"update refs/a/one {commit}", f"update refs/a/two {commit}"], "tested"
    )
    refused = [
        [f"update refs/a/three {commit}", f"update refs/a/one {commit} {'1' * 40}"],
        [f"update refs/a/three {commit}", f"update refs/a/four {'1' * 40}"],
        [f"update refs/a/three {commit}", "nonsense"],
        [f"update refs/a/three {commit}", f"update refs/a/one/below {commit}"],
    ]
    for lines in refused:
        with pytest.raises(GitFailed, match=r"refs/a|nonsense"):
            await update_refs(git, store, lines, "tested")
        await update_refs(git, store, [f"update refs/a/one {commit} {commit}"], "tested")
    listed = await to_thread.run_sync(plain, store, "for-each-ref", "--format=%(refname)")
    assert listed.split() == ["refs/a/one", "refs/a/two"]
    await update_refs(
        git, store, ["delete refs/a/one", "delete refs/a/two", "delete refs/none"], "tested"
    )
    assert await to_thread.run_sync(plain, store, "for-each-ref") == ""


async def test_a_cancelled_transaction_leaves_no_lock(git: Git, store: Path) -> None:
    commit = await to_thread.run_sync(make_commit, store)
    locked = anyio.Event()

    async def half(pipe: Pipe) -> None:
        await pipe.send(f"start\nupdate refs/a/one {commit}\nprepare\n".encode())
        assert [await pipe.line(), await pipe.line()] == [b"start: ok", b"prepare: ok"]
        locked.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(git.ask, ("update-ref", "--stdin"), half, store)
        await locked.wait()
        assert await to_thread.run_sync((store / "refs/a/one.lock").exists)
        tasks.cancel_scope.cancel()
    await update_refs(git, store, [f"update refs/a/one {commit}"], "tested")


async def test_there_are_never_many(git: Git, store: Path) -> None:
    async def ask(number: int) -> None:
        async def echo(pipe: Pipe) -> None:
            await pipe.send(b"x\n")
            assert await pipe.line() == b"x"

        await git.ask(("diff-tree", "--stdin", "--", f"path{number}"), echo, store)

    for number in range(30):
        await ask(number)
    assert len(own_children()) <= 12
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(ask, number)
    await ask(0)


KILLED = """
import os, sys
from pathlib import Path
import anyio
from alluvium_like.execution.adopt import own_children
from alluvium_like.gitrepo.objects import known_kinds
from alluvium_like.gitrepo.runner import Git

async def main():
    await known_kinds(Git("test"), Path(sys.argv[1]), ["1" * 40])
    print(*own_children(), flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


def test_it_ends_when_the_daemon_is_killed(store: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store)], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        pidfd = os.pidfd_open(int(daemon.stdout.readline()))
        daemon.kill()
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
