"""What the machine lacks: how an error tells of it, how it is shown, and what is done again."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from test_intake_scale import drop, opened

from alluvium_like import failpoint
from alluvium_like.agents.evidence import read_claim, read_question
from alluvium_like.errors import GitFailed, RepositoryError, StoreDamaged, StoreUnavailable
from alluvium_like.gitrepo.workshop import read_untrusted
from alluvium_like.guarded import own_path
from alluvium_like.lock import workspace_lock
from alluvium_like.stages.health import Health
from alluvium_like.stages.intake import Intake
from alluvium_like.surface.status import read_status
from alluvium_like.trouble import Board, Told, Trouble, read_board, trouble_of
from alluvium_like.wake import Wake
from alluvium_like.workspace import Workspace


@pytest.fixture
def health(tmp_path: Path) -> Iterator[Health]:
    board = Board(tmp_path / "board")
    yield Health(board, Wake())
    board.close()


def git_failed(*lines: str) -> GitFailed:
    return GitFailed(["fetch"], 128, "\n".join(lines))


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (OSError(errno.ENOSPC, "full"), Trouble.DISK),
        (OSError(errno.EIO, "broken"), Trouble.IO),
        (BlockingIOError(errno.EAGAIN, "no process"), Trouble.PROCESSES),
        (RuntimeError("can't start new thread"), Trouble.PROCESSES),
        (StoreUnavailable("locked"), Trouble.STORE),
        (StoreUnavailable("full", full=True), Trouble.DISK),
        (git_failed("fatal: write error: No space left on device", "fatal: gone"), Trouble.DISK),
        (git_failed("error: unable to write file large", "fatal: gone"), Trouble.DISK),
        (git_failed("fatal: Unable to write new index file"), Trouble.DISK),
        (
            git_failed("fatal: commit: cannot lock ref 'a': unable to create directory for a/b"),
            Trouble.DISK,
        ),
        (git_failed("fatal: fsync error on 'x': Input/output error"), Trouble.IO),
        (git_failed("fatal: commit: cannot update ref 'a': couldn't write 'a.lock'"), Trouble.DISK),
        (git_failed("fatal: commit: couldn't set 'refs/alluvium/base'"), Trouble.DISK),
        (GitFailed(["fetch"], -signal.SIGKILL, ""), Trouble.PROCESSES),
        (GitFailed(["fetch"], -signal.SIGSEGV, ""), None),  # what it read may be an agent's
        (ExceptionGroup("tests", [ValueError(), OSError(errno.EMFILE, "")]), Trouble.PROCESSES),
        (git_failed("fatal: 'No space left on device' is not a branch"), None),
        (OSError(errno.ENOENT, "no such agent"), None),
        (StoreDamaged("damaged"), None),
        (RepositoryError("gone"), None),
        (RuntimeError("a mistake of ours"), None),
    ],
)
def test_trouble_of_the_machine_is_told_from_what_somebody_did(
    error: Exception, trouble: Trouble | None
) -> None:
    assert trouble_of(error) is trouble


def test_the_board_shows_what_the_daemon_lacks_while_it_holds_the_lock(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.make_folders()
    told = Told(Trouble.DISK, "é\n" * 5000, "now")
    with workspace_lock(space):
        board = Board(space.board)
        size = space.board.stat().st_size
        board.show(tuple(Told(name, told.reason, "now") for name in Trouble))
        assert [one.name for one in read_status(space).degraded] == list(Trouble)
        assert read_status(space).state == "degraded"
        assert space.board.stat().st_size == size, "no room is needed to tell of a full disk"
    assert read_status(space).state == "stopped", "a daemon that was killed lacks nothing"
    assert read_status(space).degraded == ()
    board.close()
    space.board.write_text("junk")
    assert read_board(space.board) == ()


async def test_what_must_not_be_lost_is_done_again_when_the_machine_is_well(health: Health) -> None:
    errors: list[Exception] = [OSError(errno.ENOSPC, "full"), StoreUnavailable("locked")]
    tries = 0

    async def store() -> str:
        nonlocal tries
        tries += 1
        if errors:
            raise errors.pop(0)
        return "stored"

    async with anyio.create_task_group() as group:

        async def recover() -> None:
            while errors or not health.is_well:
                await anyio.lowlevel.checkpoint()
                assert health.is_well or tries == 2 - len(errors), "not before it is well"
                health.take_back(*Trouble)

        group.start_soon(recover)
        assert await health.through(store) == "stored"
    assert tries == 3


async def test_what_fails_on_a_machine_that_is_well_is_not_tried_for_ever(health: Health) -> None:
    async def store() -> None:
        raise git_failed("fatal: No space left on device, says an agent: No space left on device")

    async with anyio.create_task_group() as group:

        async def recover() -> None:
            while True:
                await anyio.lowlevel.checkpoint()
                health.take_back(*Trouble)

        group.start_soon(recover)
        with pytest.raises(GitFailed):
            await health.through(store)
        group.cancel_scope.cancel()


async def test_a_file_that_shows_what_rows_say_is_owed_until_the_machine_is_well(
    health: Health, tmp_path: Path
) -> None:
    errors = [OSError(errno.EIO, "broken"), OSError(errno.EIO, "broken")]
    file = tmp_path / "patch.diff"

    def write() -> None:
        if errors:
            raise errors.pop()
        file.write_text("whole")

    await health.write_out(file, write)
    assert [told.name for told in health.told] == [Trouble.IO]
    with pytest.raises(OSError, match="broken"):
        await health.write_owed()
    assert not file.exists()
    await health.write_owed()
    assert file.read_text() == "whole"
    file.unlink()
    await health.write_owed()
    assert not file.exists(), "written once"


async def test_what_was_owed_never_replaces_what_was_written_later(
    health: Health, tmp_path: Path
) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "full")

    file = tmp_path / "integration.json"
    await health.write_out(file, fail)
    await health.write_out(file, lambda: None)
    await health.write_owed()  # or it would fail


async def test_what_is_still_owed_at_the_end_is_written_as_far_as_it_can_be(
    health: Health, tmp_path: Path
) -> None:
    errors = [OSError(errno.EIO, "broken")]

    def fail() -> None:
        raise OSError(errno.EIO, "broken")

    def write() -> None:
        if errors:
            raise errors.pop()
        (tmp_path / "second").write_text("whole")

    await health.write_out(tmp_path / "first", fail)
    await health.write_out(tmp_path / "second", write)
    await health.write_last()
    assert (tmp_path / "second").read_text() == "whole"


@pytest.mark.parametrize("step", ["claim.sync_input", "claim.sync_inbox"])
async def test_a_claim_whose_sync_failed_goes_back_by_a_rename_and_is_made_anew(
    tmp_path: Path, step: str
) -> None:
    """A second sync of the same folders would succeed, and prove nothing."""
    async with opened(tmp_path) as parts:
        drop(parts.workspace.inbox, 2)
        before = sorted(os.listdir(parts.workspace.inbox))
        stage = Intake(parts, ignore_settle=True)
        failpoint.arm({"ALLUVIUM_FAILPOINTS": f"{step}:before:EIO"})
        try:
            with pytest.raises(OSError, match="injected"):
                await stage.look(set())
            await stage.finish_half_claims()
            assert sorted(os.listdir(parts.workspace.inbox)) == before
            assert os.listdir(parts.workspace.tasks) == []
            await stage.look(set())
        finally:
            failpoint.arm({})
        assert sum((await parts.store.counts()).values()) == 2
        assert os.listdir(parts.workspace.inbox) == []


def test_what_cannot_be_read_for_want_of_descriptors_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a question goes unheard, a rebase unseen, and an agent's folder is put aside."""
    agent = tmp_path / ".agent"
    agent.mkdir()
    (agent / "needs_human.md").write_text("what now?")

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    looks = (
        lambda: read_claim(agent),
        lambda: read_question(agent),
        lambda: read_untrusted(agent / "needs_human.md"),
        lambda: own_path(tmp_path, ".agent").__enter__(),
    )
    monkeypatch.setattr(os, "open", refuse)
    for look in looks:
        with pytest.raises(OSError, match="Too many open files"):
            look()
    monkeypatch.undo()
    assert read_question(agent) == "what now?"
    assert os.listdir(tmp_path) == [".agent"]
