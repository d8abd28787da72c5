"""Workspaces in any state of RECOVERY.md: built by the real writer on real repositories.

One template holds the commits that the states are about; every state is a copy of it.
"""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from recovery_table import WORDS, State

from alluvium_like import messages
from alluvium_like.config.load import parse_config
from alluvium_like.gitrepo.runner import Identity
from alluvium_like.gitrepo.workshop import make_workshop
from alluvium_like.lifecycle import AttemptVerdict, Ending, Outcome
from alluvium_like.lifecycle import State as Stands
from alluvium_like.stages.opening import open_parts
from alluvium_like.stages.parts import Parts
from alluvium_like.store.transaction import Transaction
from alluvium_like.store.writer import Store
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

CONFIG = parse_config({"integration": {"base_branch": "main"}})
EARLIER = "20260101T000000Z-earlier-000001"
TASK = "20260101T000001Z-item-000002"
WHO = Identity("Owner", "owner@example.org", "@1700000000 +0000")
NAME = "item"
IN_THE_WAY = "the owner's own text\n"


def git(where: Path, *args: str) -> str:
    who = ("-c", "user.name=Owner", "-c", "user.email=owner@example.org")
    done = subprocess.run(
        ["git", *who, *args], cwd=where, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def owner_commits(repo: Path, name: str, message: str = "owner's work") -> str:
    (repo / name).write_text(f"{name}\n")
    git(repo, "add", name)
    git(repo, "commit", "-q", "-m", message)
    return git(repo, "rev-parse", "HEAD")


@dataclass(frozen=True)
class Template:
    """A workspace with one landed task, and beside it what states are put together from.

    `work` and `later` are commits of the task's, `candidate` is what would land.
    """

    root: Path
    landed: str
    work: str
    later: str
    candidate: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root / "ws")

    def owner(self, base: str) -> Path:
        """Return the owner's repository with its base at one value of that fact."""
        return self.root / "repos" / base


@asynccontextmanager
async def opened(workspace: Workspace) -> AsyncIterator[Parts]:
    async with open_parts(workspace, CONFIG) as parts:
        yield parts


async def make_template(root: Path) -> Template:
    """Land a task called `earlier`, make the commits of another one, and the owner's four bases."""
    workspace = Workspace(root / "ws")
    workspace.make_folders()
    workspace.repo.mkdir()
    git(workspace.repo, "init", "-q", "-b", "main", "--template=")
    owner_commits(workspace.repo, "first")
    message = messages.commit_message("earlier", EARLIER, "", "")
    landed = owner_commits(workspace.repo, "earlier", message)
    async with opened(workspace) as parts:
        work, later, candidate = _make_commits(root / "side", workspace)
        await parts.store.set_meta("settled:default", landed)
        async with parts.store.transaction("test") as tx:
            await tx.run("create_task", id=EARLIER, name="earlier", priority=0, input_seal="")
            await tx.transition(EARLIER, expect=Stands.QUEUED, to=Stands.RUNNING)
            await tx.transition(EARLIER, expect=Stands.RUNNING, to=Stands.WORKER_DONE)
            await tx.transition(EARLIER, expect=Stands.WORKER_DONE, to=Stands.INTEGRATING)
            await tx.finish(EARLIER, Outcome.MERGED, expect=Stands.INTEGRATING, commit=landed)
        workspace.task(EARLIER).input.mkdir(parents=True)
        shop = parts.workshop(TASK)
        source = parts.integration.source()
        await make_workshop(parts.git, shop, source, commit=landed, branch="task/x", user=WHO)
        (root / "shop").mkdir()
        for place in (shop.git_dir, shop.tree, shop.index):
            place.rename(root / "shop" / place.name)
    _make_bases(root / "repos", workspace, candidate)
    return Template(root, landed, work, later, candidate)


def _make_commits(side: Path, workspace: Workspace) -> tuple[str, str, str]:
    """Make the commits of the task where the owner does not see them, for the daemon to hold."""
    git(workspace.root, "clone", "-q", "--template=", str(workspace.repo), str(side))
    work = owner_commits(side, "work", "the work")
    later = owner_commits(side, "later", "more work")
    git(side, "checkout", "-q", "-b", "landing", "main~2")
    candidate = owner_commits(side, "work", messages.commit_message(NAME, TASK, "the work", ""))
    store = f"--git-dir={workspace.integration}"
    git(side, store, "fetch", "-q", "--no-write-fetch-head", str(side), "main", "landing")
    return work, later, candidate


def _make_bases(repos: Path, workspace: Workspace, candidate: str) -> None:
    repos.mkdir()
    for base in ("before", "at", "past", "elsewhere"):
        repo = repos / base
        shutil.copytree(workspace.repo, repo)
        if base in ("at", "past"):
            git(repo, "fetch", "-q", str(workspace.integration), candidate)
            git(repo, "merge", "-q", "--ff-only", candidate)
        if base in ("past", "elsewhere"):
            owner_commits(repo, "others")
    shutil.rmtree(workspace.repo)


async def build(template: Template, state: State, root: Path, *, as_folder: bool) -> Workspace:
    """Make a workspace that is in one state; the item is a file or, where asked for, a folder."""
    shutil.copytree(template.workspace.root, root)
    workspace = Workspace(root)
    shutil.copytree(template.owner(state["base"]), workspace.repo)
    inode = _place_item(workspace, state, as_folder=as_folder)
    _place_workshop(workspace, template, state["workshop"])
    store = await Store.open(workspace.database)
    try:
        await _Rows(store, template, state, inode, as_folder).write()
        if not workspace.task(TASK).root.exists():  # what was told of it went with its folder
            await store.set_meta("projected_event", str(await store.last_event()))
    finally:
        await store.close()
    _place_refs(workspace, template, state)
    if state["store"] == "integrating+blocked":
        (workspace.repo / "work").write_text(IN_THE_WAY)
    return workspace


def _place_item(workspace: Workspace, state: State, *, as_folder: bool) -> int:
    """Lay the item where the state has it, and return its inode."""
    task, made = workspace.task(TASK), workspace.inbox / NAME
    inside = task.input if as_folder else task.input / NAME
    other = workspace.root / "other"

    def make(path: Path, text: str) -> int:
        if as_folder:
            path.mkdir()
        (path / "f" if as_folder else path).write_text(text)
        return path.lstat().st_ino

    folder = state["folder"]
    if folder != "none":
        task.root.mkdir()
    if folder in ("ours", "filled") and not (as_folder and folder == "filled"):
        task.input.mkdir()
    if folder == "bare" and not as_folder and state["store"] in ("claiming", "making"):
        task.input.mkdir()
    if folder == "ours":
        (task.input / "revert.md").write_text("take it back\n")
    inode = make(other, "dropped\n")
    match state["item"]:
        case "in inbox":
            other.rename(made)
        case "in task":
            other.rename(inside)
        case _:
            other.rename(workspace.root.parent / f"taken-back-{workspace.root.name}")
    if folder == "filled" and state["item"] != "in task":
        make(inside, "took its place\n")
    return inode


def _place_workshop(workspace: Workspace, template: Template, value: str) -> None:
    names = {"none": [], "half": [".git"], "whole": [".git", ".index", ""]}[value]
    for ending in names:
        source = template.root / "shop" / f"{TASK}{ending}"
        target = (workspace.workshops if ending else workspace.worktrees) / source.name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    if value == "half":
        (workspace.worktrees / TASK).mkdir()
        for name in ("packed-refs", "HEAD", "refs/heads/main", "refs/alluvium/base"):
            (workspace.integration / f"{name}.lock").touch()
        (workspace.integration / "objects" / "tmp_obj_half").touch()


def _place_refs(workspace: Workspace, template: Template, state: State) -> None:
    """Write refs as the files that they are."""
    value, merged = state["integration.git"], state["store"] == "merged"
    refs: dict[str, str] = {}
    if value != "nothing":
        refs[f"alluvium/tasks/{TASK}"] = template.later if value == "later" else template.work
    if value == "held":
        refs[f"alluvium/candidates/{TASK}"] = template.candidate
    if value == "held" or merged:
        refs["alluvium/base"] = template.candidate
    if merged and value == "nothing":
        refs["heads/main"] = template.candidate
    for name, commit in refs.items():
        path = workspace.integration / "refs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{commit}\n")


@dataclass
class _Rows:
    """Leads a task by legal transitions to where the state has it."""

    store: Store
    template: Template
    state: State
    inode: int
    as_folder: bool

    async def write(self) -> None:
        value = self.state["store"]
        async with self.store.transaction("test") as tx:
            if value == "claiming":
                await tx.run(
                    "begin_claim",
                    task_id=TASK,
                    source=NAME.encode(),
                    device=0,
                    inode=self.inode,
                    is_dir=self.as_folder,
                )
            elif value == "making":
                await tx.run("begin_making", task_id=TASK)
            elif value != "none":
                await self._lead(tx, value)

    @property
    def _is_ours(self) -> bool:
        return self.state["folder"] == "ours"

    @property
    def _has_work(self) -> bool:
        value, refs = self.state["store"], self.state["integration.git"]
        if self._is_ours and value in ("worker_done", "needs_revision"):
            return refs in ("work", "held")
        needed = {"worker_done", "needs_revision", "merged", *WORDS["on the lane"]}
        return value in needed or refs in ("work", "held")

    async def _lead(self, tx: Transaction, value: str) -> None:
        if self._is_ours:
            await tx.run("create_revert", id=TASK, name=NAME, reverts=EARLIER, input_seal="")
            if self._has_work:
                await self._set_work(tx)
        else:
            await tx.run("create_task", id=TASK, name=NAME, priority=0, input_seal="")
            if self._has_work:
                await self._attempt(tx, end=self.template.work)
                await tx.transition(TASK, expect=Stands.RUNNING, to=Stands.WORKER_DONE)
                await self._set_work(tx)
        name, _, more = value.partition("+")
        if name.startswith("running") or more == "attempt":
            await self._to_queued(tx)
            await self._attempt(tx, end=None if value != "running without attempt" else "")
            if more:
                await self._out_of_attempt(tx, name)
        elif name in ("integrating", "merged") or more == "blocked":
            await tx.transition(TASK, expect=Stands.WORKER_DONE, to=Stands.INTEGRATING)
            await self._journal(tx, {"merged": "landed"}.get(name, more))
            if name == "merged":
                commit = self.template.candidate
                await tx.finish(TASK, Outcome.MERGED, expect=Stands.INTEGRATING, commit=commit)
                await tx.run("set_meta", key="settled:default", value=commit)
            elif name == "cancelled":
                await tx.transition(TASK, expect=Stands.INTEGRATING, to=Stands.CANCELLED)
        elif name == "queued":
            await self._to_queued(tx)
        elif name != "worker_done":
            await self._to_end(tx, name)

    async def _set_work(self, tx: Transaction) -> None:
        await tx.run(
            "set_work",
            id=TASK,
            head_commit=self.template.work,
            base_commit=self.template.landed,
        )

    async def _attempt(self, tx: Transaction, end: str | None) -> None:
        """Begin an attempt, and end it with what it left; None leaves it open."""
        task = await tx.start_attempt(await tx.get(TASK))
        if end is not None:
            await tx.run(
                "end_attempt",
                task_id=TASK,
                number=task.attempt,
                ending=Ending.EXITED,
                exit_code=0,
                verdict=AttemptVerdict.TO_INTEGRATOR,
                reason="",
                end_commit=end,
            )

    async def _out_of_attempt(self, tx: Transaction, name: str) -> None:
        if name == "needs_human":
            await tx.ask_human(await tx.get(TASK), "?", reason="asks")
        else:
            await tx.transition(TASK, expect=Stands.RUNNING, to=Stands.CANCELLED)

    async def _to_queued(self, tx: Transaction) -> None:
        task = await tx.get(TASK)
        if task.state is not Stands.QUEUED:
            await tx.ask_human(task, "?", reason="asks")
            await tx.run("answer_checkpoints", task_id=TASK, answer="so")
            await tx.transition(
                TASK, expect=Stands.NEEDS_HUMAN, to=Stands.QUEUED, start_from="branch"
            )

    async def _to_end(self, tx: Transaction, name: str) -> None:
        """Lead a task with or without work to where no attempt is open and nothing lands."""
        task: Task = await tx.get(TASK)
        if name == "cancelled":
            await tx.transition(TASK, expect=task.state, to=Stands.CANCELLED)
        elif name == "needs_revision":
            await tx.transition(TASK, expect=Stands.WORKER_DONE, to=Stands.INTEGRATING)
            await tx.transition(TASK, expect=Stands.INTEGRATING, to=Stands.NEEDS_REVISION)
        else:
            await self._to_queued(tx)
            await self._attempt(tx, end=task.head_commit)
            match name:
                case "failed":
                    await tx.transition(TASK, expect=Stands.RUNNING, to=Stands.FAILED)
                case "noop":
                    await tx.finish(TASK, Outcome.NOOP, expect=Stands.RUNNING)
                case _:
                    await tx.ask_human(await tx.get(TASK), "?", reason="asks")

    async def _journal(self, tx: Transaction, landing: str) -> None:
        if not landing:
            return
        old, new = self.template.landed, self.template.candidate
        (row,) = await tx.run(
            "prepare_landing", repository="default", old_commit=old, new_commit=new
        )
        await tx.run("add_landing_task", landing_id=row["id"], task_id=TASK, commit_id=new)
        await tx.run("set_landing_state", id=row["id"], state=landing, reason="in the way")
