"""What coupling asks a person about: the history that lands, and what an agent made of others'."""

import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from alluvium_like.config.load import parse_config
from alluvium_like.errors import RepositoryError
from alluvium_like.lifecycle import State
from alluvium_like.stages.integrate.couple import couple
from alluvium_like.stages.opening import open_parts
from alluvium_like.stages.parts import Parts, pulled_key
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

EVIL = ".github/workflows/e.yml"
CI = ".github/workflows/ci.yml"


@dataclass
class Bench:
    """An owner's repository with the daemon's parts, and a task that an attempt was made for."""

    parts: Parts
    owner: Path

    def git(self, *args: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *args],
            cwd=self.owner,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None]) -> str:
        for name, text in files.items():
            path = self.owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")
        return self.git("rev-parse", "HEAD")

    def merge(self, ours: str, theirs: str, files: Mapping[str, str | None]) -> str:
        """Merge as an agent does, which resolves all that conflicts by `files`."""
        self.git("checkout", "-q", ours)
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "merge", "-q", theirs],
            cwd=self.owner,
            capture_output=True,
            check=False,
        )
        return self.commit(files)

    def bring(self, head: str) -> None:
        self.git("branch", "-f", "work", head)
        store = f"--git-dir={self.parts.integration.path}"
        self.git(store, "fetch", "-q", str(self.owner), "+work:refs/alluvium/tasks/t")

    async def item(self, head: str) -> Task:
        """Make a finished task whose work is `head`."""
        self.bring(head)
        store = self.parts.store
        async with store.transaction("tested") as tx:
            await tx.run("create_task", id="t", name="t", priority=0, input_seal="")
            await tx.transition("t", expect=State.QUEUED, to=State.RUNNING)
            await tx.transition("t", expect=State.RUNNING, to=State.WORKER_DONE)
            base = self.parts.integration.seen
            await tx.run("set_work", id="t", head_commit=head, base_commit=base)
        return await store.get("t")

    async def upstream(self, pulled: str, head: str) -> Task:
        """Make a task that merges `pulled`, of which an agent may have made `head`."""
        self.bring(head)
        base = self.git("merge-base", self.parts.integration.seen, pulled)
        async with self.parts.store.transaction("tested") as tx:
            await tx.run(
                "create_upstream",
                id="t",
                name="origin/main",
                repository="default",
                summary="",
                base_commit=base,
                head_commit=head,
                input_seal="",
            )
            await tx.run("set_meta", key=pulled_key("default"), value=f"t {pulled}")
        return await self.parts.store.get("t")

    async def allow(self, commit: str) -> Task:
        """Let a person approve this work."""
        async with self.parts.store.transaction("tested") as tx:
            await tx.transition(
                "t", expect=State.NEEDS_HUMAN, to=State.WORKER_DONE, approved_commit=commit
            )
        return await self.parts.store.get("t")

    async def asked(self, task: Task) -> str:
        """Couple the task; return what a person is asked, empty when it became a car."""
        car = await couple(self.parts, task, self.parts.integration.seen)
        after = await self.parts.store.get(task.id)
        assert (car is None) == (after.state is State.NEEDS_HUMAN)
        return "" if car else after.reason


@pytest.fixture
async def bench(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Take the merge style as a parameter."""
    space = Workspace.at(tmp_path / "ws")
    owner = space.root / "repo"
    owner.mkdir(parents=True)
    space.make_folders()
    space.lock_file.touch()
    bench = Bench(cast(Parts, None), owner)
    bench.git("init", "-q", "-b", "main")
    bench.commit({"shared": "1\n", CI: "1\n2\n3\n4\n5\n", "x": "x\n"})
    bench.git("checkout", "-q", "--detach")
    table = {"base_branch": "main", "merge_style": getattr(request, "param", "squash")}
    async with open_parts(space, parse_config({"integration": table})) as parts:
        bench.parts = parts
        yield bench


@pytest.mark.parametrize(("bench", "asked"), [("squash", ""), ("merge", EVIL)], indirect=["bench"])
async def test_history_that_lands_is_looked_at_commit_by_commit(bench: Bench, asked: str) -> None:
    bench.commit({EVIL: "evil\n", "w": "w\n"})
    task = await bench.item(bench.commit({EVIL: None}))
    assert await bench.asked(task) == (f"touches protected paths: {asked}" if asked else "")
    if asked:
        assert await bench.asked(await bench.allow(task.head_commit)) == ""


@pytest.mark.parametrize("bench", ["squash", "merge"], indirect=True)
async def test_what_the_base_brought_into_the_work_needs_no_leave(bench: Bench) -> None:
    base = bench.git("rev-parse", "main")
    bench.commit({CI: "owner's\n"})
    bench.git("branch", "-f", "main", "HEAD")
    bench.git("checkout", "-q", base)
    work = bench.commit({"w": "w\n"})
    await bench.parts.integration.refresh()
    assert await bench.asked(await bench.item(bench.merge(work, "main", {"v": "v\n"}))) == ""


OURS, THEIRS = {"shared": "ours\n"}, {"shared": "theirs\n"}


async def diverge(
    bench: Bench,
    ours: Mapping[str, str | None],
    theirs: Mapping[str, str | None],
) -> str:
    """Let the base and what others pushed go apart; return the latter."""
    base = bench.git("rev-parse", "main")
    pulled = bench.commit(theirs)
    bench.git("checkout", "-q", base)
    bench.git("branch", "-f", "main", bench.commit(ours))
    await bench.parts.integration.refresh()
    return pulled


async def test_what_others_pushed_needs_no_leave(bench: Bench) -> None:
    """Neither where Git alone merged it, changes on both sides included."""
    pulled = await diverge(
        bench, {CI: "0\n2\n3\n4\n5\n"}, {CI: "1\n2\n3\n4\n6\n", EVIL: "others'\n"}
    )
    assert await bench.asked(await bench.upstream(pulled, pulled)) == ""


RESOLUTIONS: dict[str, tuple[Mapping[str, str | None], str]] = {
    "nothing protected": ({"shared": "both\n"}, ""),
    "a file of its own": ({"shared": "both\n", EVIL: "evil\n"}, EVIL),
    "a link of its own": ({"shared": "both\n", ".claude": "x\n"}, ".claude"),
    "what others pushed changed": ({"shared": "both\n", CI: "agent's\n"}, CI),
    "what others pushed kept out": ({"shared": "both\n", CI: "1\n2\n3\n4\n5\n"}, ""),
}


@pytest.mark.parametrize("case", RESOLUTIONS)
async def test_what_an_agent_added_to_what_others_pushed_needs_leave(
    bench: Bench, case: str
) -> None:
    files, asked = RESOLUTIONS[case]
    pulled = await diverge(bench, OURS, {**THEIRS, CI: "others'\n"})
    task = await bench.upstream(pulled, bench.merge(pulled, "main", files))
    assert await bench.asked(task) == (f"touches protected paths: {asked}" if asked else "")
    if asked:
        assert await bench.asked(await bench.allow(task.head_commit)) == ""


async def test_what_an_agent_added_and_took_away_needs_leave_too(bench: Bench) -> None:
    pulled = await diverge(bench, OURS, {**THEIRS, CI: "others'\n"})
    bench.merge(pulled, "main", {"shared": "both\n", EVIL: "evil\n"})
    task = await bench.upstream(pulled, bench.commit({EVIL: None}))
    assert await bench.asked(task) == f"touches protected paths: {EVIL}"


async def test_where_it_is_no_longer_known_what_others_pushed_all_of_it_is_asked_about(
    bench: Bench,
) -> None:
    pulled = await diverge(bench, OURS, {**THEIRS, CI: "others'\n"})
    task = await bench.upstream(pulled, bench.merge(pulled, "main", {"shared": "both\n"}))
    await bench.parts.store.set_meta(pulled_key("default"), f"another {pulled}")
    assert await bench.asked(task) == f"touches protected paths: {CI}"


def submodule(name: str = "x", path: str = "x", url: str = "./x") -> str:
    return f'[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n'


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        (".gitmodules", submodule(url="-u./payload"), "disallowed submodule url: -u./payload"),
        (".gitmodules", submodule(path="-x"), "disallowed submodule path: -x"),
        (".gitmodules", submodule(name="../../x"), "disallowed submodule name: ../../x"),
        ("a/.gitattributes", "x" * 3000 + " text", "too long lines"),
        ("a/.gitattributes", "# x\n" * 2_600_000, "a/.gitattributes is larger than 10_000_000"),
    ],
    ids=["url", "path", "name", "line", "size"],
)
async def test_a_file_that_git_refuses_does_not_land_and_no_leave_helps(
    bench: Bench, file: str, text: str, why: str
) -> None:
    head = bench.commit({file: text})
    task = replace(await bench.item(head), approved_commit=head)
    with pytest.raises(RepositoryError, match=re.escape(why)):
        await couple(bench.parts, task, bench.parts.integration.seen)


async def test_a_link_in_the_place_of_gitmodules_does_not_land(bench: Bench) -> None:
    blob, first = bench.git("rev-parse", "HEAD:x"), bench.git("rev-parse", "HEAD")
    tree = bench.git("mktree", stdin=f"120000 blob {blob}\t.gitmodules\n")
    head = bench.git("commit-tree", "-p", first, "-m", "work", tree)
    task = await bench.item(head)
    with pytest.raises(RepositoryError, match=r"\.gitmodules is a symbolic link"):
        await couple(bench.parts, task, bench.parts.integration.seen)


async def test_a_submodule_that_git_takes_needs_leave_alone(bench: Bench) -> None:
    head = bench.commit({".gitmodules": submodule(), ".gitattributes": "* text\n"})
    task = replace(await bench.item(head), approved_commit=head)
    assert await bench.asked(task) == ""
