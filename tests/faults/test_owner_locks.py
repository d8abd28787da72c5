"""Lock files that stop git: whose they are, and which of them go."""

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from owner_place import ENVIRONMENT, LANDED, Place, commit, git, lost, lost_beside, write

from alluvium_like.errors import GitFailed
from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo.integration import Integration
from alluvium_like.gitrepo.landing import Landed
from alluvium_like.gitrepo.locks import clear_locks
from alluvium_like.gitrepo.objects import update_refs
from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.talk import Pipe

LOCKS = ["index.lock", "HEAD.lock", "refs/heads/main.lock", "ORIG_HEAD.lock"]
LONG_AGO = 3600.0


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.made(tmp_path_factory.mktemp("pattern") / "place")


@pytest.fixture
def place(pattern: Place, tmp_path: Path) -> Place:
    return pattern.copy_to(tmp_path / "place")


def plant(place: Place, name: str, *, age: float = 0.0) -> Path:
    """Leave a lock as a git does that is killed, made `age` seconds ago."""
    lock = place.git_dir / name
    lock.write_bytes(b"")
    made_old(lock, age)
    return lock


def made_old(lock: Path, age: float) -> None:
    os.utime(lock, (time.time() - age,) * 2)


# -- in the owner's repository ---------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS)
async def test_a_fresh_lock_of_nobody_known_is_waited_for_and_told(place: Place, name: str) -> None:
    lock = plant(place, name)
    before = place.see()
    end = await place.land()
    assert end.result is Landed.BLOCKED
    assert str(lock) in end.reason
    assert "has been there since" in end.reason
    assert "remove the file" in end.reason
    assert lost(before, place.see()) == []
    lock.unlink()
    assert (await place.land()).result is Landed.LANDED


@pytest.mark.parametrize("name", LOCKS)
async def test_a_lock_that_has_lain_for_long_and_is_nobodys_goes(place: Place, name: str) -> None:
    write(place.tree, "kept", "mine\n")
    before = place.see()
    plant(place, name, age=LONG_AGO)
    assert (await place.land()).result is Landed.LANDED
    assert lost_beside(before, place.see(), place.new, LANDED) == []


async def test_all_locks_of_a_landing_that_was_cut_off_go(place: Place) -> None:
    before = place.see()
    began = time.time()
    for name in LOCKS:
        plant(place, name)
    assert (await place.land(cut_off=began)).result is Landed.LANDED
    assert lost_beside(before, place.see(), place.new, LANDED) == []


async def test_a_lock_that_the_merge_itself_could_not_take_away_goes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Git.run

    async def leaving_its_lock(self: Git, *args: str, **options: Any) -> Completed:
        done = await run(self, *args, **options)
        if "merge" in args:
            plant(place, "HEAD.lock")
        return done

    monkeypatch.setattr(Git, "run", leaving_its_lock)
    assert (await place.land()).result is Landed.LANDED
    assert not (place.git_dir / "HEAD.lock").exists()


async def test_a_lock_from_before_the_landing_that_was_cut_off_is_not_ours(place: Place) -> None:
    lock = plant(place, "index.lock", age=60)
    assert (await place.land(cut_off=time.time())).result is Landed.BLOCKED
    assert lock.exists()


async def test_where_other_machines_may_be_at_work_no_lock_goes(place: Place) -> None:
    lock = plant(place, "index.lock", age=LONG_AGO)
    end = await place.land(cut_off=0.0, network="nfs4")
    assert end.result is Landed.BLOCKED
    assert "nfs4" in end.reason
    assert lock.exists()


async def test_where_processes_cannot_be_seen_no_lock_goes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another user may be at work unseen."""
    lock = plant(place, "index.lock", age=LONG_AGO)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert (await place.land(cut_off=0.0)).result is Landed.BLOCKED
    assert lock.exists()


async def test_what_is_no_file_is_no_lock_of_git(place: Place) -> None:
    lock = place.git_dir / "index.lock"
    lock.symlink_to("config")
    assert (await place.land(cut_off=0.0)).result is Landed.BLOCKED
    assert lock.is_symlink()


@contextmanager
def committing(place: Place, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real `git commit` that waits in its editor; the editor ends with this context."""
    ready, go = place.root / "ready", place.root / "go"
    os.mkfifo(ready)
    os.mkfifo(go)
    editor = place.root / "editor"
    editor.write_text(f'#!/bin/sh\necho >"{ready}"\nread line <"{go}"\necho typed >"$1"\n')
    editor.chmod(0o755)
    process = subprocess.Popen(
        ["git", "commit", "-q", "-a"],
        cwd=folder,
        env=ENVIRONMENT | {"GIT_EDITOR": str(editor)},
    )
    try:
        ready.read_text()  # returns when the editor has begun
        yield process
        go.write_text("on\n")
        assert process.wait(timeout=30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("where", ["", "sub"])
async def test_the_lock_of_a_living_git_is_never_touched(place: Place, where: str) -> None:
    write(place.tree, "kept", "mine\n")
    lock = place.git_dir / "index.lock"
    with committing(place, place.tree / where) as person:
        made_old(lock, LONG_AGO)
        seen = lock.stat()
        end = await place.land(cut_off=0.0)
        assert end.result is Landed.BLOCKED
        assert f"git (process {person.pid})" in end.reason
        assert "goes on when that has ended" in end.reason
        assert lock.stat() == seen
    assert (await place.land()).result is Landed.MOVED
    assert git(place.tree, "log", "-1", "--format=%s") == "typed"
    assert git(place.tree, "show", "HEAD:kept") == "mine"


async def test_the_lock_of_a_git_in_another_worktree_counts_too(place: Place) -> None:
    git(place.tree, "worktree", "add", "-q", "-b", "mine", "../second")
    second = place.root / "second"
    write(second, "kept", "mine\n")
    lock = plant(place, "refs/heads/main.lock", age=LONG_AGO)
    with committing(place, second) as person:
        end = await place.land(cut_off=0.0)
        assert f"git (process {person.pid})" in end.reason
        assert lock.exists()
    assert (await place.land(cut_off=0.0)).result is Landed.LANDED


async def test_a_git_that_is_at_work_elsewhere_keeps_no_lock_here(
    place: Place, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git(place.root, "clone", "-q", str(place.tree), str(other))
    write(other, "kept", "mine\n")
    plant(place, "index.lock", age=LONG_AGO)
    with committing(place, other):
        assert (await place.land()).result is Landed.LANDED


async def test_a_lock_that_any_program_has_open_is_not_touched(place: Place) -> None:
    lock = plant(place, "index.lock", age=LONG_AGO)
    with lock.open("rb"):
        end = await place.land(cut_off=0.0)
    assert end.result is Landed.BLOCKED
    assert f"(process {os.getpid()})" in end.reason
    assert (await place.land(cut_off=0.0)).result is Landed.LANDED


async def test_what_a_git_of_ours_that_was_killed_left_is_taken_up(place: Place) -> None:
    """Files half written, and the index locked."""
    write(place.tree, ".gitattributes", "zz filter=deadly\n")
    commit(place.tree, "attributes")
    place.offer({"zz": "last of all\n"})
    write(place.tree, "kept", "mine\n")
    before = place.see()
    git(place.tree, "config", "filter.deadly.smudge", "kill -9 $PPID")
    began = time.time()
    with pytest.raises(GitFailed) as killed:
        await place.land()
    assert killed.value.code == -signal.SIGKILL
    assert (place.git_dir / "index.lock").exists()
    assert (place.tree / "changed").read_text() == "new text\n", "half of it was written"
    git(place.tree, "config", "--remove-section", "filter.deadly")
    assert (await place.land(cut_off=began)).result is Landed.LANDED
    assert lost_beside(before, place.see(), place.new, {*LANDED, "zz"}) == []


# -- in the daemon's own ---------------------------------------------------------------------------


@pytest.fixture
async def integration(place: Place) -> AsyncIterator[Integration]:
    ours = Integration(Git("test", state=place.root), place.integration, place.git_dir, "main")
    await ours.open()
    yield ours
    await ours.close()


OURS = ["refs/alluvium/base.lock", "refs/heads/main.lock", "packed-refs.lock", "HEAD.lock"]


@pytest.mark.parametrize("name", OURS)
async def test_a_lock_that_was_left_in_our_repository_stops_nothing(
    place: Place, integration: Integration, name: str
) -> None:
    await integration.keep("t", place.new)
    git(place.integration, "pack-refs", "--all")
    commit(place.tree, "owner's")
    lock = place.integration / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_bytes(b"")
    assert await integration.refresh()
    await integration.set_base(place.new)
    await integration.forget("t")
    await integration.landed(place.new, ["t"])
    assert git(place.integration, "for-each-ref", "--format=%(refname)", "refs/alluvium") == (
        "refs/alluvium/base"
    )
    assert name == "HEAD.lock" or not lock.exists()


async def test_what_a_living_git_of_ours_has_locked_is_waited_for(
    place: Place, integration: Integration
) -> None:
    """The one holds the lock of a ref until it has seen that the other waits for it."""
    ours, held, other_ended = Git("test", state=place.root), anyio.Event(), anyio.Event()
    lock = place.integration / "refs/alluvium/shared.lock"

    async def hold(pipe: Pipe) -> None:
        await pipe.send(f"start\nupdate refs/alluvium/shared {place.old}\nprepare\n".encode())
        assert [await pipe.line() for _ in range(2)] == [b"start: ok", b"prepare: ok"]
        held.set()
        with anyio.move_on_after(20) as patience:
            while not waiting():
                await anyio.lowlevel.checkpoint()
        assert not patience.cancelled_caught
        assert lock.exists()
        assert not other_ended.is_set()
        await pipe.send(b"commit\n")
        assert await pipe.line() == b"commit: ok"

    def waiting() -> bool:
        return any(event.statistics().tasks_waiting for event in ours.at_work)

    async def other() -> None:
        await held.wait()
        await ours.run("update-ref", "refs/alluvium/shared", place.new, git_dir=place.integration)
        other_ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await ours.ask(("update-ref", "--stdin"), hold, place.integration)
    await ours.close(place.integration)
    assert git(place.integration, "rev-parse", "refs/alluvium/shared") == place.new


async def test_repositories_that_are_not_the_daemons_are_never_unlocked_in_passing(
    place: Place,
) -> None:
    git_dir = place.integration
    lock = git_dir / "refs" / "heads" / "main.lock"
    lock.write_bytes(b"")
    with pytest.raises(GitFailed):
        await update_refs(Git("test"), git_dir, [f"update refs/heads/main {place.old}"], "test")
    elsewhere = Git("other", state=place.root / "elsewhere")
    with pytest.raises(GitFailed):
        await elsewhere.run("update-ref", "refs/heads/main", place.old, git_dir=git_dir)
    assert lock.exists()


def test_every_lock_is_cleared_where_no_git_is_at_work(place: Place) -> None:
    names = [*OURS, "config.lock", "objects/info/commit-graphs/commit-graph-chain.lock"]
    names += ["objects/ab/tmp_obj_x1Y2z3", "objects/pack/tmp_pack_x1Y2z3"]
    for name in names:
        lock = place.integration / name
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.write_bytes(b"")
    assert {
        str(lock.relative_to(place.integration)) for lock in clear_locks(place.integration)
    } == (set(names))
    assert clear_locks(place.integration) == []
