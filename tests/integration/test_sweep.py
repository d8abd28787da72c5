"""What housekeeping finds in a real workspace, and what it moves away: nothing that is needed."""

import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alluvium_like.clock import utc_text
from alluvium_like.config.tables import Retention
from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.runner import Git
from alluvium_like.lifecycle import ENDED, State
from alluvium_like.stages import sweep
from alluvium_like.stages.retention import Kind, Removal
from alluvium_like.stages.sweep import carry_out, survey
from alluvium_like.stages.trash import throw_away
from alluvium_like.store.writer import Store
from alluvium_like.workspace import TaskFolder, Workspace

TIGHT = Retention(
    done_days=1,
    failed_days=1,
    outputs_days=1,
    attempts_days=1,
    failed_attempts_days=1,
    test_logs=0,
    test_logs_days=1,
)
PARTS = TIGHT.model_copy(update={"done_days": 0, "failed_days": 0})
OLD = timedelta(days=10)
WAY = {
    State.QUEUED: (),
    State.RUNNING: (State.RUNNING,),
    State.WORKER_DONE: (State.RUNNING, State.WORKER_DONE),
    State.INTEGRATING: (State.RUNNING, State.WORKER_DONE, State.INTEGRATING),
    State.NEEDS_REVISION: (
        *(State.RUNNING, State.WORKER_DONE, State.INTEGRATING, State.NEEDS_REVISION),
    ),
    State.NEEDS_HUMAN: (State.RUNNING, State.NEEDS_HUMAN),
    State.DONE: (State.RUNNING, State.DONE),
    State.FAILED: (State.RUNNING, State.FAILED),
    State.CANCELLED: (State.CANCELLED,),
}


@dataclass
class House:
    space: Workspace
    store: Store
    git: Git
    commit: str

    async def task(self, name: str, state: State, age: timedelta = OLD) -> TaskFolder:
        """Make a task with everything that may be left of one, and let it age."""
        async with self.store.transaction("tested") as tx:
            await tx.run("create_task", id=name, name=name, priority=0, input_seal="")
        now = State.QUEUED
        for step in WAY[state]:
            outcome = "noop" if step is State.DONE else None
            await self.store.transition(name, expect=now, to=step, outcome=outcome)
            now = step
        self.age(name, age)
        folder = self.space.task(name)
        for path in (
            folder.input / "request.md",
            folder.agent / "outputs" / "figure.svg",
            folder.attempt(1) / "stdout.log",
            self.space.worktrees / name / "file",
            self.space.workshops / f"{name}.git" / "HEAD",
            self.space.workshops / f"{name}.index",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x" * 5000)
        for kind in ("tasks", "candidates"):
            self.run_git("update-ref", f"refs/alluvium/{kind}/{name}", self.commit)
        return folder

    def age(self, name: str, age: timedelta) -> None:
        self.sql("UPDATE tasks SET updated_at = ? WHERE id = ?", utc_text(now() - age), name)

    def sql(self, text: str, *values: object) -> None:
        db = sqlite3.connect(self.space.database)
        with db:
            db.execute(text, values)
        db.close()

    async def trial(self, *tasks: str, ended: bool = True, age: timedelta = OLD) -> Path:
        async with self.store.transaction("tested") as tx:
            rows = await tx.run(
                "begin_trial", repository="default", commit_id="c", tree="t", digest="d"
            )
            number = rows[0]["id"]
            for position, name in enumerate(tasks):
                await tx.run("add_trial_task", trial_id=number, task_id=name, position=position)
            if ended:
                await tx.run("end_trial", id=number, result="red", command="make", exit_text="")
        path = self.space.trial_log(number)
        path.write_text("output\n")
        moment = (now() - age).timestamp()
        os.utime(path, (moment, moment))
        return path

    def run_git(self, *args: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        command = ["git", *who, f"--git-dir={self.space.integration}", *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def refs(self) -> set[str]:
        return set(self.run_git("for-each-ref", "--format=%(refname)").split())

    async def look(self, limits: Retention = TIGHT) -> list[Removal]:
        return await survey(self.space, self.git, limits)

    async def remove(self, found: list[Removal]) -> list[str]:
        gone = await carry_out(self.space, self.store, self.git, found)
        return [removal.path for removal in gone]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[House]:
    space = Workspace.at(root / "ws")
    space.make_folders()
    store = await Store.open(space.database)
    house = House(space, store, Git("test"), "")
    try:
        house.run_git("init", "-q", "--bare")
        tree = house.run_git("hash-object", "-t", "tree", "-w", "/dev/null")
        house.commit = house.run_git("commit-tree", "-m", "work", tree)
        yield house
    finally:
        await house.git.close(space.integration)
        await store.close()


def whole(folder: TaskFolder) -> bool:
    return all(
        path.is_file()
        for path in (
            folder.input / "request.md",
            folder.agent / "outputs" / "figure.svg",
            folder.attempt(1) / "stdout.log",
        )
    )


async def test_of_tasks_that_have_not_ended_nothing_is_found(house: House) -> None:
    for state in set(WAY) - ENDED:
        await house.task(state, state)
    tightest = TIGHT.model_copy(update={"folders_bytes": 1})
    assert await house.look(tightest) == []


async def test_an_ended_task_goes_with_all_that_is_left_of_it_and_its_row_stays(
    house: House,
) -> None:
    for state in sorted(ENDED):
        folder = await house.task(state, state)
        found = await house.look()
        assert {r.path for r in found} == {
            f"tasks/{state}",
            f"refs/alluvium/tasks/{state}",
            f"refs/alluvium/candidates/{state}",
            f"worktrees/{state}",
            f".alluvium/workshops/{state}.git",
            f".alluvium/workshops/{state}.index",
        }
        assert all(r.size >= 5000 for r in found if r.kind is not Kind.REF)
        assert set(await house.remove(found)) == {r.path for r in found}
        assert not folder.root.exists()
        assert not house.refs()
        assert not list(house.space.worktrees.iterdir())
        assert (await house.store.get(state)).state is state
        assert len(await house.store.events_of(state)) == 1 + len(WAY[state])
        assert await house.look() == [], "nothing is found twice"
    trash = list(house.space.trash.rglob("request.md"))
    assert len(trash) == len(ENDED), "it left by rename, and is deleted from there"


async def test_a_survey_changes_nothing(house: House) -> None:
    folder = await house.task("t", State.DONE)
    await house.look()
    assert whole(folder)
    assert len(house.refs()) == 2
    assert not list(house.space.trash.iterdir())


async def test_only_artifacts_and_output_go_where_the_folder_stays(house: House) -> None:
    folder = await house.task("t", State.FAILED)
    found = [r for r in await house.look(PARTS) if r.kind is not Kind.WORKSHOP]
    assert {r.path for r in found} == {"tasks/t/.agent/outputs", "tasks/t/.system/attempts"}
    await house.remove(found)
    assert (folder.input / "request.md").exists()
    assert not (folder.agent / "outputs").exists()
    assert not (folder.system / "attempts").exists()
    assert len(house.refs()) == 2
    (folder.agent / "outputs").mkdir()
    assert [r.kind for r in await house.look(PARTS) if r.kind is not Kind.WORKSHOP] == []


async def test_a_task_that_is_run_again_after_the_look_keeps_everything(house: House) -> None:
    folder = await house.task("t", State.FAILED)
    for limits in (TIGHT, PARTS):
        found = await house.look(limits)
        assert found
        await house.store.transition("t", expect=State.FAILED, to=State.QUEUED)
        assert await house.remove(found) == []
        await house.store.transition("t", expect=State.QUEUED, to=State.RUNNING)
        await house.store.transition("t", expect=State.RUNNING, to=State.FAILED)
        assert await house.remove(found) == [], "it has ended again, just now"
        house.age("t", OLD)
    assert whole(folder)
    assert len(house.refs()) == 2


async def test_a_ref_that_was_moved_after_the_look_stays(house: House) -> None:
    await house.task("t", State.FAILED)
    found = await house.look()
    tree = house.run_git("rev-parse", f"{house.commit}^{{tree}}")
    newer = house.run_git("commit-tree", "-m", "newer work", tree)
    house.run_git("update-ref", "refs/alluvium/tasks/t", newer)
    with pytest.raises(GitFailed):
        await house.remove(found)
    assert house.run_git("rev-parse", "refs/alluvium/tasks/t") == newer


async def test_refs_that_a_crash_left_without_their_folder_are_found_again(house: House) -> None:
    await house.task("t", State.FAILED)
    found = await house.look()
    await house.remove([removal for removal in found if removal.kind is Kind.FOLDER])
    assert {r.path for r in await house.look() if r.kind is Kind.REF} == {
        "refs/alluvium/tasks/t",
        "refs/alluvium/candidates/t",
    }


async def test_a_cancelled_task_whose_attempt_has_not_ended_is_in_use(house: House) -> None:
    await house.task("t", State.CANCELLED)
    await house.store.write("begin_attempt", task_id="t", number=1, agent="default")
    assert await house.look() == []
    ended = {"ending": "cancelled", "exit_code": None, "verdict": None, "end_commit": ""}
    ended |= {"outcome": ""}
    await house.store.write("end_attempt", task_id="t", number=1, reason="", **ended)
    found = await house.look()
    assert found
    await house.store.write("begin_attempt", task_id="t", number=2, agent="default")
    assert await house.remove(found) == []


async def test_what_the_lane_or_a_revert_still_holds_is_in_use(house: House) -> None:
    for name in ("car", "landing", "reverted", "pulled", "free"):
        await house.task(name, State.CANCELLED if name != "reverted" else State.DONE)
    before = await house.look()
    async with house.store.transaction("tested") as tx:
        await tx.run("add_car", repository="default", position=0, task_id="car", commit_id="c")
        rows = await tx.run("prepare_landing", repository="default", old_commit="a", new_commit="b")
        landing = rows[0]["id"]
        await tx.run("add_landing_task", landing_id=landing, task_id="landing", commit_id="b")
        await tx.run("create_revert", id="revert", name="revert", reverts="reverted", input_seal="")
        await tx.run("set_meta", key="upstream:default", value="pulled tip")
    assert {removal.task_id for removal in await house.look()} == {"free"}
    lane = [removal for removal in before if removal.task_id in ("car", "landing")]
    assert lane
    assert await house.remove(lane) == []


async def test_logs_of_tests_stay_while_their_run_their_task_or_a_red_base_needs_them(
    house: House,
) -> None:
    await house.task("asks", State.NEEDS_HUMAN)
    await house.task("over", State.DONE)
    logs = {
        "waits": await house.trial("asks", "over"),
        "runs": await house.trial(ended=False),
        "red": await house.trial(),
        "new": await house.trial(age=timedelta(hours=1)),
        "old": await house.trial("over"),
    }
    await house.store.set_condition("base_red", f"mend it; output in {logs['red']}", "default")
    stranger = house.space.trial_logs / "notes.log"
    stranger.write_text("mine")
    link = house.space.trial_logs / "999.log"
    link.symlink_to(stranger)
    for path in (stranger, link):
        os.utime(path, (0, 0), follow_symlinks=False)
    found = [removal for removal in await house.look() if removal.kind is Kind.TEST_LOG]
    assert [house.space.root / removal.path for removal in found] == [logs["old"]]
    await house.store.clear_condition("base_red", "default")
    found = [removal for removal in await house.look() if removal.kind is Kind.TEST_LOG]
    assert len(found) == 2
    house.sql("UPDATE trial_tasks SET task_id = 'asks' WHERE task_id = 'over' AND trial_id > 1")
    assert await house.remove(found) == [str(logs["red"].relative_to(house.space.root))]
    assert logs["old"].exists(), "its task waits by now"
    assert stranger.exists()
    assert link.is_symlink()


async def test_too_many_bytes_are_told_by_the_disk_and_take_the_oldest(house: House) -> None:
    older = await house.task("older", State.DONE, timedelta(days=20))
    newer = await house.task("newer", State.DONE)
    sizes = {
        name: sum(p.lstat().st_blocks * 512 for p in [f.root, *f.root.rglob("*")])
        for name, f in (("older", older), ("newer", newer))
    }
    limit = PARTS.model_copy(update={"folders_bytes": sum(sizes.values())})
    assert Kind.FOLDER not in {removal.kind for removal in await house.look(limit)}
    limit = limit.model_copy(update={"folders_bytes": sum(sizes.values()) - 1})
    (folder,) = [removal for removal in await house.look(limit) if removal.kind is Kind.FOLDER]
    assert (folder.path, folder.size) == ("tasks/older", sizes["older"])


@pytest.mark.parametrize("linked", [".system", ".agent", "."])
async def test_nothing_that_an_agent_planted_leads_elsewhere(
    house: House, tmp_path: Path, linked: str
) -> None:
    folder = await house.task("t", State.DONE)
    elsewhere = tmp_path / "elsewhere"
    (folder.root / linked).rename(elsewhere)
    (folder.root / linked).symlink_to(elsewhere)
    inside = sorted(path.relative_to(elsewhere) for path in elsewhere.rglob("*"))
    limits = TIGHT if linked == "." else PARTS
    found = await house.look(limits)
    assert not any(linked in removal.path.split("/") for removal in found)
    forged = [
        Removal(
            Kind.ATTEMPTS, f"tasks/t/{part}", "", 0, "t", (await house.store.get("t")).updated_at
        )
        for part in (".system/attempts", ".agent/outputs")
        if part.startswith(linked) or linked == "."
    ]
    assert await house.remove(forged) == []
    await house.remove(found)
    assert sorted(path.relative_to(elsewhere) for path in elsewhere.rglob("*")) == inside


async def test_what_cannot_be_moved_holds_nothing_else_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        await house.task(name, State.DONE)
    real = throw_away

    def refuse_one(root: Path, inside: list[str], trash: Path) -> None:
        if inside == ["tasks", "a"]:
            raise PermissionError(13, "Permission denied", "tasks/a")
        real(root, inside, trash)

    monkeypatch.setattr(sweep, "throw_away", refuse_one)
    gone = await house.remove(await house.look())
    assert "tasks/b" in gone
    assert "tasks/a" not in gone
    assert house.space.task("a").root.exists()


async def test_a_stop_ends_the_look_and_the_removal(house: House) -> None:
    await house.task("t", State.DONE)
    assert await survey(house.space, house.git, TIGHT, lambda: True) == []
    found = await house.look()
    assert await carry_out(house.space, house.store, house.git, found, lambda: True) == []
    assert house.space.task("t").root.exists()


async def test_a_workspace_whose_daemon_never_started_has_nothing_to_give(tmp_path: Path) -> None:
    assert await survey(Workspace.at(tmp_path), Git("test"), TIGHT) == []


async def test_the_rows_of_a_task_go_when_nothing_else_is_left_and_take_no_other(
    house: House,
) -> None:
    for name in ("gone", "kept"):
        await house.task(name, State.DONE)
        await house.store.write(
            "open_checkpoint", task_id=name, attempt=0, kind="question", question="?"
        )
    await house.trial("gone")
    await house.trial("gone", "kept")
    async with house.store.transaction("tested") as tx:
        for tasks in (["gone"], ["gone", "kept"]):
            (row,) = await tx.run(
                "prepare_landing", repository="default", old_commit="a", new_commit="b"
            )
            await tx.run("set_landing_state", id=row["id"], state="landed", reason="")
            for name in tasks:
                await tx.run("add_landing_task", landing_id=row["id"], task_id=name, commit_id="b")
    limits = PARTS.model_copy(update={"done_days": 1, "history_days": 1})
    house.age("kept", timedelta(hours=2))
    first = await house.look(limits)
    assert "history" not in {removal.kind for removal in first}, "its folder goes before"
    await house.remove(first)
    found = [removal for removal in await house.look(limits) if removal.kind == "history"]
    assert await house.remove(found) == ["gone"]
    db = sqlite3.connect(house.space.database)
    of_tasks = ("tasks", "id"), ("events", "task_id"), ("checkpoints", "task_id")
    for table, column in (*of_tasks, ("trial_tasks", "task_id"), ("landing_tasks", "task_id")):
        assert {name for (name,) in db.execute(f"SELECT {column} FROM {table}")} == {"kept"}
    for table in ("trials", "landings"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()


async def test_rows_of_a_task_that_was_taken_up_again_stay(house: House) -> None:
    folder = await house.task("t", State.FAILED)
    limits = TIGHT.model_copy(update={"history_days": 1})
    await house.remove(await house.look(limits))
    assert not folder.root.exists()
    (found,) = [removal for removal in await house.look(limits) if removal.kind == "history"]
    await house.store.transition("t", expect=State.FAILED, to=State.QUEUED)
    assert await house.remove([found]) == []
    assert (await house.store.get("t")).state == State.QUEUED
