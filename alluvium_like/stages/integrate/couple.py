"""Coupling: from finished work to a candidate commit on top of the train, or why not (yet).

What contradicts the landed base goes back to its agent at once, without a test; what contradicts
only work that has not landed yet waits for that. Work that touches protected paths waits for a
person's leave, which holds for exactly that work; where its commits land too, each of them counts.
What others pushed needs no leave, but what an agent made of it does.
"""

from dataclasses import replace

from alluvium_like import messages
from alluvium_like.errors import GitFailed, RepositoryError, reason_of
from alluvium_like.gitrepo.merges import Conflict
from alluvium_like.lifecycle import TaskKind
from alluvium_like.log import get_logger
from alluvium_like.stages.integrate import verdicts
from alluvium_like.stages.integrate.candidate import brings_commits, build_commit
from alluvium_like.stages.integrate.train import Car
from alluvium_like.stages.parts import Parts, last_pulled
from alluvium_like.task import Task
from alluvium_like.trouble import trouble_of

log = get_logger(__name__)


async def couple_or_ask(parts: Parts, task: Task, top: str) -> Car | None:
    """Couple one task; what goes wrong with it is put to a person and stops nobody else."""
    try:
        return await couple(parts, task, top)
    except (GitFailed, RepositoryError, ValueError) as error:
        if trouble_of(error):
            raise
        await parts.mend()  # raises where the task is not to blame
        log.exception("task_not_coupled", task_id=task.id)
        await verdicts.ask_about_merge(parts, task, reason_of(error))
        return None


async def couple(parts: Parts, task: Task, top: str) -> Car | None:
    """Make a candidate of a task on top of `top`; without one its row says what it waits for.

    Raises GitFailed, OSError or ValueError where git could not even try, RepositoryError where the
    work can never be merged.
    """
    integration = parts.integration
    if task.merge_commit:
        await verdicts.ask_about_landed(parts, task)
        return None
    pulled = ""
    if task.kind is TaskKind.REVERT and not task.head_commit:
        made = await _make_revert(parts, task)
        if made is None:
            return None
        task = made
    elif task.kind is TaskKind.UPSTREAM:
        pulled = await _pulled_tip(parts, task)
    merged = await integration.merge_work(top, task.head_commit, task.base_commit)
    if isinstance(merged, Conflict):
        await _conflicting(parts, task, top, merged)
        return None
    if merged.tree == await integration.tree_of(top) and task.kind is not TaskKind.UPSTREAM:
        await _adding_nothing(parts, task, top)
        return None
    refused = await integration.find_refused(await integration.tree_of(top), merged.tree)
    if refused:
        raise RepositoryError(refused)
    known = {test.name for test in parts.settings.current.integration.optional_tests}
    if gone := sorted(set(task.settings.tests) - known):
        raise RepositoryError(messages.test_gone(gone[0]))
    merge = brings_commits(parts, task)
    touched = await _to_be_allowed(parts, task, top, merged.tree, pulled=pulled, merge=merge)
    if touched:
        await verdicts.ask_for_leave(parts, task, sorted(touched))
        return None
    if "landing" in task.settings.checkpoints and task.head_commit != task.approved_commit:
        await verdicts.ask_before_landing(parts, task)
        return None
    commit = await build_commit(parts, task, top, merged.tree, merge=merge)
    return Car(task.id, commit, merged.tree)


async def _pulled_tip(parts: Parts, task: Task) -> str:
    """Return what a task merges of others', if that is still known.

    Raises RepositoryError where the work does not hold it any more.
    """
    pulled = await last_pulled(parts)
    if pulled is None or pulled.task_id != task.id:
        return ""
    if not await parts.integration.history.contains(pulled.tip, task.head_commit):
        raise RepositoryError(messages.upstream_lost(task.name, pulled.tip))
    return pulled.tip


async def _conflicting(parts: Parts, task: Task, top: str, merged: Conflict) -> None:
    integration = parts.integration
    landed = integration.seen
    if top != landed:
        found = await integration.merge_work(landed, task.head_commit, task.base_commit)
        if not isinstance(found, Conflict):
            ahead = f"conflicts in {', '.join(merged.paths[:5])} with work that is still to land"
            await verdicts.wait(parts, task, f"waits: {ahead}")
            return
        merged = found
    await verdicts.send_back_conflict(parts, task, landed, merged)


async def _adding_nothing(parts: Parts, task: Task, top: str) -> None:
    integration = parts.integration
    landed = integration.seen
    if top != landed:
        found = await integration.merge_work(landed, task.head_commit, task.base_commit)
        if isinstance(found, Conflict) or found.tree != await integration.tree_of(landed):
            await verdicts.wait(parts, task, "waits: work that is still to land holds all of it")
            return
    await verdicts.mark_noop(parts, task)


async def _to_be_allowed(
    parts: Parts, task: Task, top: str, tree: str, *, pulled: str, merge: bool
) -> set[str]:
    """Return the protected paths that are touched and that nobody has allowed yet.

    Of a merge of what others pushed: those that are neither as they were here nor as `pulled`.
    """
    integration = parts.integration
    protected = parts.settings.current.integration.protected_paths
    if task.head_commit in (task.approved_commit, pulled):
        return set()
    found = await integration.touched(await integration.tree_of(top), tree, protected)
    if pulled:
        theirs = await integration.tree_of(pulled)
        found &= await integration.touched(theirs, tree, protected)
    if merge:
        known = [top, pulled] if pulled else [top]
        found |= await integration.touched_on_the_way(task.head_commit, known, protected)
    return found


async def _make_revert(parts: Parts, task: Task) -> Task | None:
    """Make the work of a revert: what takes its commit back from the landed base.

    Where later work is in the way an agent has to do it.
    """
    integration = parts.integration
    undone = await parts.store.get(task.reverts)
    landed = integration.seen
    merged = await integration.revert(undone.merge_commit, landed)
    if isinstance(merged, Conflict):
        await verdicts.send_back_revert(parts, task, undone, merged)
        return None
    who = parts.settings.identity
    commit = await integration.commit(
        merged.tree,
        [landed],
        messages.revert_message(undone.name, undone.merge_commit),
        author=who,
        committer=who,
    )
    await integration.keep(task.id, commit)
    await parts.store.write("set_work", id=task.id, head_commit=commit, base_commit=landed)
    return replace(task, head_commit=commit, base_commit=landed)
