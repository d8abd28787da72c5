"""What an ended attempt left in Git: found, fetched and, where uncommitted, committed for it.

Commits come by fetch from the workshop into integration.git; files are looked at with the daemon's
own GIT_DIR and index only. Work on another branch or a detached HEAD is found and taken; work in
several places that do not contain each other is for a person. Nothing found is ever dropped: what
is not the task's work stays under refs/alluvium/strays/.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.execution.quick import Completed
from alluvium_like.gitrepo import workshop as ws
from alluvium_like.gitrepo.runner import Git, Identity, first_line, null_split
from alluvium_like.gitrepo.workshop import Source, Workshop

_GITLINK = "160000"


@dataclass(frozen=True, slots=True)
class Start:
    """Where an attempt started: a commit, and the base merged into its tree where it conflicted."""

    commit: str
    merge: str = ""
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Harvest:
    """The work of one attempt: from where to which commit, and what a person has to know."""

    start: str
    commit: str
    changed: bool
    trouble: str = ""
    unresolved: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Door:
    """Our way to look at a worktree: our repository and index, the agent's files."""

    git: Git
    store: Path
    workshop: Workshop

    async def run(self, *args: str) -> Completed:
        """Run git over the files. Raises GitFailed."""
        return await self.git.run(
            *args,
            git_dir=self.store,
            work_tree=self.workshop.tree,
            index=self.workshop.index,
        )

    async def tree(self) -> str:
        """Return the tree of the files as they lie. Raises GitFailed."""
        await self.run("add", "--all")
        return first_line(await self.run("write-tree"))


@dataclass(frozen=True, slots=True)
class _Tip:
    """The work that was committed: its last commit, and the one that the files lie on.

    `stored` is what the task's ref names already.
    """

    commit: str
    files_on: str
    trouble: str = ""
    notes: tuple[str, ...] = ()
    stored: str = ""


@dataclass(frozen=True, slots=True)
class _Files:
    """The tree of the files as they lie."""

    tree: str
    trouble: str = ""
    notes: tuple[str, ...] = ()


async def harvest(
    git: Git,
    workshop: Workshop,
    source: Source,
    *,
    task_id: str,
    branch: str,
    start: Start,
    author: Identity,
) -> Harvest:
    """Bring an attempt's work to refs/alluvium/tasks/<id>, whole. Raises GitFailed."""
    tip = await _fetch_commits(git, workshop, source, task_id, branch, start)
    store = source.integration
    names = (f"{commit}^{{tree}}" for commit in (tip.files_on, tip.commit, start.commit))
    trees = await git.run("rev-parse", *names, git_dir=store)
    committed, tree, start_tree = trees.stdout.decode().split()
    files = await _read_files(git, workshop, store, start, tip.files_on, committed)
    commit, trouble = tip.commit, tip.trouble or files.trouble
    if files.tree != committed:
        left = await _commit_for_agent(
            git, workshop, store, files.tree, tip.files_on, start, author
        )
        if tip.files_on == tip.commit:
            commit, tree = left, files.tree
        else:
            stray = f"refs/alluvium/strays/{task_id}/{left}"
            await git.run("update-ref", stray, left, git_dir=store)
            trouble = trouble or "the agent left changes beside commits that do not contain them"
    if commit not in (tip.stored, start.commit):
        await git.run("update-ref", task_ref(task_id), commit, git_dir=store)
    return Harvest(
        start.commit,
        commit,
        changed=tree != start_tree or bool(start.merge and commit != start.commit),
        trouble=trouble,
        unresolved=await _unresolved(git, store, tree, start.conflicts),
        notes=(*tip.notes, *files.notes),
    )


def task_ref(task_id: str) -> str:
    """Return the ref of the daemon's repository that keeps a task's work."""
    return f"refs/alluvium/tasks/{task_id}"


async def _fetch_commits(
    git: Git, workshop: Workshop, source: Source, task_id: str, branch: str, start: Start
) -> _Tip:
    nothing = _Tip(start.commit, start.commit)
    tampered, head, tips = await anyio.to_thread.run_sync(_look_at, workshop, source)
    if tampered:
        return replace(nothing, trouble=tampered)
    known = {start.commit, start.merge, source.base_commit}
    places = {name: commit for name, commit in tips.items() if commit not in known}
    files_on = head.commit or tips.get(head.branch, start.commit)
    if not places:
        return replace(nothing, files_on=files_on)
    commits = sorted(set(places.values()))
    refs = [f"refs/alluvium/strays/{task_id}/{commit}" for commit in commits]
    if len(commits) == 1:
        refs = [task_ref(task_id)]
    try:
        await git.run(
            "fetch",
            "--quiet",
            "--no-write-fetch-head",
            "--no-tags",
            str(workshop.git_dir),
            *(f"+{commit}:{ref}" for commit, ref in zip(commits, refs, strict=True)),
            git_dir=source.integration,
        )
    except GitFailed as error:
        return replace(nothing, trouble=f"the agent's commits cannot be fetched: {error}")
    if len(commits) == 1:
        return _Tip(commits[0], files_on, notes=_moved(places, branch), stored=commits[0])
    return await _choose(git, source.integration, places, branch, head, start, files_on)


def _look_at(workshop: Workshop, source: Source) -> tuple[str, ws.Head, dict[str, str]]:
    """Return why the workshop is not to be trusted, its HEAD, and the places with commits."""
    tampered = ws.find_tampering(workshop, source)
    if tampered:
        return tampered, ws.Head("", ""), {}
    head = ws.read_head(workshop)
    tips = ws.read_branches(workshop)
    if head.commit:
        tips["HEAD"] = head.commit
    return "", head, tips


async def _choose(
    git: Git,
    store: Path,
    places: dict[str, str],
    branch: str,
    head: ws.Head,
    start: Start,
    files_on: str,
) -> _Tip:
    """Choose the work: the one place that contains all others, else the task's own branch."""
    commits = sorted(set(places.values()))
    done = await git.run("merge-base", "--independent", *commits, git_dir=store)
    heads = done.stdout.decode().split()
    if len(heads) == 1:
        return _Tip(heads[0], files_on, notes=_moved(places, branch))
    if head.branch == branch and branch in places:
        others = ", ".join(sorted(set(places) - {branch}))
        note = f"other branches were left alone: {others}"
        return _Tip(places[branch], files_on, notes=(note,))
    where = ", ".join(f"{name} ({commit[:10]})" for name, commit in sorted(places.items()))
    return _Tip(
        places.get(branch, start.commit),
        files_on,
        trouble=f"the agent committed in several places that do not contain each other: {where}",
    )


def _moved(places: dict[str, str], branch: str) -> tuple[str, ...]:
    if branch in places:
        return ()
    return (f"the work was found on {', '.join(sorted(places))} instead of {branch}",)


async def _read_files(
    git: Git, workshop: Workshop, store: Path, start: Start, commit: str, committed: str
) -> _Files:
    """Read the files that lie on `commit`, whose tree is `committed`, through our own index.

    It knows them as they were given out, so only what was touched is read again, and nothing that
    the agent's Git says counts.
    """
    if not await anyio.to_thread.run_sync(ws.tree_is_ours, workshop):
        gone = "the agent deleted or replaced its worktree"
        return _Files(committed, trouble=gone)
    door = Door(git, store, workshop)
    try:
        tree = await door.tree()
        if tree != committed and commit != start.commit:
            await door.run("read-tree", "--reset", commit)  # for what only `add --force` takes in
            tree = await door.tree()
    except GitFailed as error:
        unreadable = f"the agent's files cannot be committed: {error}"
        return _Files(committed, trouble=unreadable)
    if tree == committed:
        return _Files(tree)
    tree, nested = await _without_nested_repositories(door, committed, tree)
    notes = tuple(f"{path} is a Git repository of its own: left out" for path in nested)
    return _Files(tree, notes=notes)


async def _without_nested_repositories(door: Door, old: str, new: str) -> tuple[str, list[str]]:
    """Leave out repositories that the agent cloned into its tree: their files are not here."""
    done = await door.run("diff-tree", "-r", "-z", "--no-renames", old, new)
    parts = null_split(done.stdout)
    nested = [
        path
        for meta, path in zip(parts[::2], parts[1::2], strict=True)
        if meta.split()[1] == _GITLINK
    ]
    if not nested:
        return new, []
    await door.run("update-index", "--force-remove", "--", *nested)
    return first_line(await door.run("write-tree")), nested


async def _commit_for_agent(
    git: Git,
    workshop: Workshop,
    store: Path,
    tree: str,
    parent: str,
    start: Start,
    author: Identity,
) -> str:
    """Commit what the agent left, concluding the merge that it was given to conclude."""
    parents = [parent]
    merging = await anyio.to_thread.run_sync(ws.merge_in_progress, workshop)
    if start.merge and merging == start.merge and parent == start.commit:
        parents.append(merging)
    done = await git.run(
        "commit-tree",
        tree,
        *(word for parent in parents for word in ("-p", parent)),
        "-m",
        "Uncommitted work of the attempt",
        git_dir=store,
        author=author,
        committer=author,
    )
    return first_line(done)


async def _unresolved(git: Git, store: Path, tree: str, paths: tuple[str, ...]) -> str:
    """Name the files in which conflict markers were left that the agent was asked to resolve."""
    if not paths:
        return ""
    done = await git.run(
        "--literal-pathspecs",
        "grep",
        "-z",
        "--name-only",
        "-e",
        "^<<<<<<< ",
        tree,
        "--",
        *paths,
        git_dir=store,
        accept=frozenset({0, 1}),
    )
    names = [name.removeprefix(f"{tree}:") for name in null_split(done.stdout)]
    return f"conflict markers were left in {', '.join(names)}" if names else ""
