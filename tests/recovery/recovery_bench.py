"""Workspaces in any state of RECOVERY.md: built by the real writer on real repositories.

One template holds the commits that the states are about; every state is a copy of it.
"""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from recovery_rows import EARLIER, NAME, TASK, Rows, Template
from recovery_table import State

from alluvium_like import messages
from alluvium_like.config.load import parse_config
from alluvium_like.gitrepo.runner import Identity
from alluvium_like.gitrepo.workshop import make_workshop
from alluvium_like.lifecycle import Outcome
from alluvium_like.lifecycle import State as Stands
from alluvium_like.stages.opening import open_parts
from alluvium_like.stages.parts import Parts
from alluvium_like.store.writer import Store
from alluvium_like.workspace import Workspace

CONFIG = parse_config({"integration": {"base_branch": "main"}})
WHO = Identity("Owner", "owner@example.org", "@1700000000 +0000")
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


@asynccontextmanager
async def opened(workspace: Workspace) -> AsyncIterator[Parts]:
    async with open_parts(workspace, CONFIG) as parts:
        yield parts


async def make_template(root: Path) -> Template:
    """Land a task called `earlier`, make the commits of another one, and the owner's four bases."""
    workspace = Workspace(root / "ws")
    workspace.make_folders()
    workspace.lock_file.touch()
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
        await Rows(store, template, state, inode, as_folder).write()
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
