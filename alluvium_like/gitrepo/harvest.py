"""What an ended attempt left in Git: found, fetched and, where uncommitted, committed for it.

Commits come from the workshop into integration.git (by `carry`, else by fetch); files are looked at
with the daemon's own GIT_DIR and index only. Work on another branch or a detached HEAD is found and
taken; work in several places that do not contain each other is for a person. Nothing found is ever
dropped: what is not the task's work stays under refs/alluvium/strays/.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from alluvium_like.clock import time_of_day
from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo import workshop as ws
from alluvium_like.gitrepo.carry import carry
from alluvium_like.gitrepo.hazards import find_tampering
from alluvium_like.gitrepo.merges import Conflict, unresolved_in
from alluvium_like.gitrepo.objects import trees_of, update_refs, write_commit
from alluvium_like.gitrepo.private import find_private
from alluvium_like.gitrepo.runner import Git, Identity
from alluvium_like.gitrepo.uncommitted import read_files
from alluvium_like.gitrepo.vetting import refusal_of
from alluvium_like.gitrepo.workshop import Source, Workshop
from alluvium_like.trouble import trouble_of

_MOST_PLACES = 1000
_UNCOMMITTED = "Uncommitted work of the attempt\n"


@dataclass(frozen=True, slots=True)
class Start:
    """Where an attempt started: a commit, and the base merged into its tree where it conflicted.

    `conflict` is what that merge left to resolve.
    """

    commit: str
    merge: str = ""
    conflict: Conflict | None = None


@dataclass(frozen=True, slots=True)
class Harvest:
    """The work of one attempt: from where to which commit, and what a person has to know."""

    start: str
    commit: str
    changed: bool
    problem: str = ""
    unresolved: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Tip:
    """The work that was committed: its last commit, and the one that the files lie on.

    `stored` is what the task's ref names already, `aside` tells of work that is in no branch,
    `strays` are the commits that were fetched beside the task's ref.
    """

    commit: str
    files_on: str
    problem: str = ""
    notes: tuple[str, ...] = ()
    stored: str = ""
    aside: str = ""
    strays: tuple[str, ...] = ()


async def harvest(
    git: Git,
    workshop: Workshop,
    source: Source,
    *,
    task_id: str,
    branch: str,
    start: Start,
    author: Identity,
    private: Sequence[str] = (),
    others: str = "",
    reader: Sequence[str] = (),
) -> Harvest:
    """Bring an attempt's work to refs/alluvium/tasks/<id>, whole. Raises GitFailed.

    `reader`: the command that runs git's side of the fetch that reads the workshop, in a box.
    Work with a `private` path in any commit, on whatever branch, is not taken and has no ref: it is
    in the workshop only. What the commit `others` holds is not the agent's.
    """
    tip = await _fetch_commits(git, workshop, source, task_id, branch, start, reader)
    store = source.integration
    commits = (tip.files_on, tip.commit, start.commit)
    committed, tree, start_tree = await trees_of(git, store, commits)
    files = await read_files(git, workshop, store, start.commit, tip.files_on, committed, private)
    problem, strays = tip.problem or files.problem, tip.strays
    if files.tree != committed and tip.files_on != tip.commit:
        left = await _commit_for_agent(git, store, files.tree, [tip.files_on], author)
        strays = (*strays, left)
        await update_refs(git, store, [f"update {_stray_ref(task_id, left)} {left}"], "stray")
        problem = problem or "the agent left changes beside commits that do not contain them"
    elif files.tree != committed:
        tree = files.tree
    unresolved = await unresolved_in(git, store, tree, tip.commit, start.merge, start.conflict)
    commit = tip.commit
    # Also where nothing differs: the agent may have decided for its own side throughout.
    concluded = bool(start.merge) and not unresolved and not problem and commit == start.commit
    if tree == files.tree != committed or concluded:
        parents = [commit, start.merge] if concluded else [commit]
        commit = await _commit_for_agent(git, store, tree, parents, author)
    known = [each for each in (source.base_commit, start.merge, others) if each]
    if leaked := await find_private(git, store, (commit, *strays), known, private):
        return await _not_taken(git, source, task_id, start, strays, leaked)
    if commit not in (tip.stored, start.commit):
        await update_refs(git, store, [f"update {task_ref(task_id)} {commit}"], "work")
    changed = tree != start_tree or bool(start.merge and commit != start.commit)
    if not changed and not problem:
        problem = tip.aside or "; ".join(files.notes)
    notes = (*tip.notes, *files.notes)
    return Harvest(start.commit, commit, changed, problem, unresolved, notes)


async def _not_taken(
    git: Git,
    source: Source,
    task_id: str,
    start: Start,
    strays: Sequence[str],
    leaked: Sequence[str],
) -> Harvest:
    """Leave work that must not land without a ref: nobody goes on from it, no backup has it."""
    ref, fresh = task_ref(task_id), start.commit == source.base_commit
    lines = [
        *(f"delete {_stray_ref(task_id, each)}" for each in dict.fromkeys(strays)),
        f"delete {ref}" if fresh else f"update {ref} {start.commit}",
    ]
    await update_refs(git, source.integration, lines, "private")
    problem = f"the agent committed {', '.join(leaked[:5])}, which must never land: see [setup]"
    return Harvest(start.commit, start.commit, changed=False, problem=problem)


def task_ref(task_id: str) -> str:
    """Return the ref of the daemon's repository that keeps a task's work."""
    return f"refs/alluvium/tasks/{task_id}"


def _stray_ref(task_id: str, commit: str) -> str:
    return f"refs/alluvium/strays/{task_id}/{commit}"


async def _fetch_commits(
    git: Git,
    workshop: Workshop,
    source: Source,
    task_id: str,
    branch: str,
    start: Start,
    reader: Sequence[str],
) -> _Tip:
    nothing = _Tip(start.commit, start.commit)
    tampered, head, tips = await anyio.to_thread.run_sync(_look_at, workshop, source)
    if tampered:
        return replace(nothing, problem=tampered)
    known = {start.commit, start.merge, source.base_commit}
    places = {name: commit for name, commit in tips.items() if commit not in known}
    files_on = head.commit or tips.get(head.branch, start.commit)
    if list(places) == [ws.STASH]:
        nothing = replace(nothing, aside="the agent left its work in a stash")
    else:
        places.pop(ws.STASH, None)
    if not places:
        return replace(nothing, files_on=files_on)
    if len(set(places.values())) > _MOST_PLACES:
        where = f"the agent committed in {len(places)} places: too many to take in"
        return replace(nothing, files_on=files_on, problem=where)
    commits = sorted(set(places.values()))
    refs, strays = [_stray_ref(task_id, commit) for commit in commits], tuple(commits)
    if len(commits) == 1 and not nothing.aside:
        refs, strays = [task_ref(task_id)], ()
    known_ids = [commit for commit in known if commit]
    try:
        carried = len(commits) == 1 and await carry(
            git, source.integration, workshop, commits[0], known_ids
        )
        if carried:
            await update_refs(
                git, source.integration, [f"update {refs[0]} {commits[0]}"], "carried"
            )
        else:
            await _fetch(git, source.integration, workshop, commits, refs, reader)
    except GitFailed as error:
        if trouble_of(error):
            raise
        why = f"the agent's commits cannot be fetched: {refusal_of(error)}"
        return replace(nothing, problem=why)
    if nothing.aside:
        return replace(nothing, files_on=files_on, strays=strays)
    if len(commits) == 1:
        return _Tip(commits[0], files_on, notes=_moved(places, branch), stored=commits[0])
    tip = await _choose(git, source.integration, places, branch, head, start, files_on)
    return replace(tip, strays=strays)


async def _fetch(
    git: Git,
    store: Path,
    workshop: Workshop,
    commits: Sequence[str],
    refs: Sequence[str],
    reader: Sequence[str],
) -> None:
    values = dict(zip(refs, commits, strict=True))
    with git.refs.writing(store, values):
        await git.run(
            "fetch",
            *([f"--upload-pack={shlex.join([*reader, 'git-upload-pack'])}"] if reader else []),
            "--quiet",
            "--no-write-fetch-head",
            "--no-tags",
            "--stdin",
            str(workshop.git_dir),
            git_dir=store,
            stdin="".join(f"+{commit}:{ref}\n" for ref, commit in values.items()).encode(),
        )


def _look_at(workshop: Workshop, source: Source) -> tuple[str, ws.Head, dict[str, str]]:
    """Return why the workshop is not to be trusted, its HEAD, and the places with commits."""
    tampered = find_tampering(workshop, source)
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
        problem=f"the agent committed in several places that do not contain each other: {where}",
    )


def _moved(places: dict[str, str], branch: str) -> tuple[str, ...]:
    if branch in places:
        return ()
    return (f"the work was found on {', '.join(sorted(places))} instead of {branch}",)


async def _commit_for_agent(
    git: Git, store: Path, tree: str, parents: Sequence[str], author: Identity
) -> str:
    now = replace(author, date=author.date or f"@{int(time_of_day())} +0000")
    return await write_commit(git, store, tree, parents, _UNCOMMITTED, now, now)
