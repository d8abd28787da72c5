"""What set-ups made: kept whole or not at all, copied, made by one of several at once."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from alluvium_like import failpoint
from alluvium_like.clock import utc_text
from alluvium_like.config.setup import Setup
from alluvium_like.config.tables import Retention
from alluvium_like.execution.process import StopRequest
from alluvium_like.lifecycle import Ending
from alluvium_like.stages import setups
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.retention import SetupFacts, what_goes
from alluvium_like.stages.setting_up import SetupStopped, _reused, _unless_stopped
from alluvium_like.stages.sweep import _setups
from alluvium_like.workspace import Workspace

KEY = "k" * 32
ID = "test"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.at(tmp_path / "ws")
    made.make_folders()
    return made


def make_tree(workspace: Workspace, name: str) -> Path:
    tree = workspace.worktrees / name
    tree.mkdir()
    return tree


def fill(tree: Path) -> None:
    """Make what tools make: programs that name their place, links, and much that does not."""
    programs = tree / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "tool").write_text(f"#!{tree}/.venv/bin/python\n{tree}-other\n")
    (programs / "tool").chmod(0o555)
    (programs / "binary").write_bytes(b"\0" + os.fsencode(tree))
    (programs / "here").symlink_to(tree / ".venv")
    (programs / "python").symlink_to("/usr/bin/python3")
    (tree / ".venv" / "more.pth").write_text(f"{tree}/src\n")
    (tree / ".venv" / "data.txt").write_text(f"{tree}\n")


async def test_what_is_kept_works_in_another_place(workspace: Workspace) -> None:
    old, new = make_tree(workspace, "old"), make_tree(workspace, "new")
    fill(old)
    await setups.keep(workspace, KEY, old, [".venv", "missing"], ID)
    assert await setups.reuse(workspace, KEY, new, ID)
    programs = new / ".venv" / "bin"
    assert (programs / "tool").read_text() == f"#!{new}/.venv/bin/python\n{old}-other\n"
    assert (programs / "tool").stat().st_mode & 0o777 == 0o555
    assert (programs / "binary").read_bytes() == b"\0" + os.fsencode(old)
    assert (programs / "here").readlink() == new / ".venv"
    assert str((programs / "python").readlink()) == "/usr/bin/python3"
    assert (new / ".venv" / "more.pth").read_text() == f"{new}/src\n"
    assert (new / ".venv" / "data.txt").read_text() == f"{old}\n"


async def test_what_an_agent_writes_changes_nothing_that_is_kept(workspace: Workspace) -> None:
    old, one, two = (make_tree(workspace, name) for name in ("old", "one", "two"))
    fill(old)
    await setups.keep(workspace, KEY, old, [".venv"], ID)
    assert await setups.reuse(workspace, KEY, one, ID)
    for tree in (old, one):
        with (tree / ".venv" / "data.txt").open("a") as stream:
            stream.write("written by an agent\n")
    assert await setups.reuse(workspace, KEY, two, ID)
    assert (two / ".venv" / "data.txt").read_text() == f"{old}\n"


async def test_what_is_half_copied_is_never_used(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_tree(workspace, "old"), make_tree(workspace, "new")
    fill(old)

    async def die(source: Path, target: Path, workspace_id: str) -> None:
        (target / "half").mkdir(parents=True)
        raise OSError(5, "the disk does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(setups, "copy_in", die)
        with pytest.raises(OSError, match="does not answer"):
            await setups.keep(workspace, KEY, old, [".venv"], ID)
    assert list(workspace.setups.iterdir()) == []
    assert not await setups.reuse(workspace, KEY, new, ID)
    (workspace.setups / f".{KEY}-1234" / "files").mkdir(parents=True)  # as a kill leaves it
    assert _setups(workspace) == []
    setups.drop_halves(workspace)
    assert list(workspace.setups.iterdir()) == []


async def test_what_was_brought_in_part_is_taken_away_again(workspace: Workspace) -> None:
    old, new = make_tree(workspace, "old"), make_tree(workspace, "new")
    fill(old)
    (old / "more").mkdir()
    await setups.keep(workspace, KEY, old, [".venv", "more"], ID)
    (workspace.setups / KEY / "files" / "more").rmdir()
    with pytest.raises(OSError, match="No such file"):
        await setups.reuse(workspace, KEY, new, ID)
    assert list(new.iterdir()) == []


@pytest.mark.parametrize(
    "note", [b"", b"{}", b"[]", b'{"tree": 1, "kept": 2, "naming": 3}', b"\xff\xfe", b"\0" * 80]
)
async def test_a_damaged_entry_is_forgotten_and_made_again(
    workspace: Workspace, note: bytes
) -> None:
    old, new = make_tree(workspace, "old"), make_tree(workspace, "new")
    fill(old)
    await setups.keep(workspace, KEY, old, [".venv"], ID)
    (workspace.setups / KEY / "made.json").write_bytes(note)
    parts = cast(Parts, SimpleNamespace(workspace=workspace, workspace_id=ID))
    assert not await _reused(parts, KEY, new)
    assert list(workspace.setups.iterdir()) == []
    await setups.keep(workspace, KEY, old, [".venv"], ID)
    assert await _reused(parts, KEY, new)


async def test_an_entry_is_on_the_disk_before_it_has_its_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = make_tree(workspace, "old")
    fill(old)
    monkeypatch.setattr(failpoint, "_plan", None)
    failpoint.arm({"ALLUVIUM_FAILPOINTS": "setup.sync:before:EIO"})
    with pytest.raises(OSError, match=r"injected at setup\.sync"):
        await setups.keep(workspace, KEY, old, [".venv"], ID)
    assert list(workspace.setups.iterdir()) == []
    trace = tmp_path / "trace"
    failpoint.arm({"ALLUVIUM_FAILPOINT_TRACE": str(trace)})
    await setups.keep(workspace, KEY, old, [".venv"], ID)
    assert trace.read_text().split()[-4:] == ["setup.sync", "1", "setup.publish", "1"]


async def test_links_are_not_kept_and_lead_nowhere(workspace: Workspace, tmp_path: Path) -> None:
    old = make_tree(workspace, "old")
    (tmp_path / "away" / "inside").mkdir(parents=True)
    (old / "linked").symlink_to(tmp_path / "away")
    await setups.keep(workspace, KEY, old, ["linked", "linked/inside"], ID)
    assert list(workspace.setups.iterdir()) == []


async def test_who_waits_for_another_s_set_up_can_be_stopped() -> None:
    lock = setups.Setups().lock(KEY)
    await lock.acquire()
    stop = StopRequest()
    stopped: list[Ending] = []

    async def wait() -> None:
        try:
            await _unless_stopped(stop, lock.acquire)
        except SetupStopped as error:
            stopped.append(error.ending)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not stopped
        stop.stop(Ending.CANCELLED)
    assert stopped == [Ending.CANCELLED]
    lock.release()
    await _unless_stopped(StopRequest(), lock.acquire)
    lock.release()


def test_the_key_tells_apart_what_decides() -> None:
    setup = Setup(run=("npm ci",), keep=("node_modules",))  # type: ignore[arg-type]
    locks = (("package-lock.json", "a" * 40),)
    keys = {
        setups.key_of(setup, locks),
        setups.key_of(setup, (("package-lock.json", "b" * 40),)),
        setups.key_of(setup, (("web/package-lock.json", "a" * 40),)),
        setups.key_of(setup.model_copy(update={"keep": ("x",)}), locks),
        setups.key_of(Setup(run=("npm i",), keep=("node_modules",)), locks),  # type: ignore[arg-type]
    }
    assert len(keys) == 5
    later = setup.model_copy(update={"copy_": (".env",), "timeout_seconds": 5})
    assert setups.key_of(later, locks) in keys


async def test_those_used_last_stay(workspace: Workspace) -> None:
    now = time.time()
    for number in range(4):
        entry = workspace.setups / f"key{number}"
        entry.mkdir()
        (entry / "made.json").write_text('{"tree": "/x", "kept": [], "naming": []}')
        os.utime(entry, (now - 20_000 + number, now - 20_000 + number))
    assert await setups.reuse(workspace, "key0", make_tree(workspace, "t"), ID), "used just now"
    facts = [
        SetupFacts(path.name, utc_text(datetime.fromtimestamp(path.stat().st_mtime, UTC)))
        for path in _setups(workspace)
    ]

    def going(limit: int) -> set[str]:
        found = what_goes(Retention(setups=limit), [], [], datetime.now(UTC), facts)
        return {removal.path for removal in found}

    assert going(2) == {".alluvium/setups/key1", ".alluvium/setups/key2"}
    assert going(0) == set()
