"""What the integrator tells a task: its row, and the files for agent and person.

The files are projections: when they cannot be written the verdict stands all the same.
"""

import json
from collections.abc import Sequence
from functools import partial

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.agents.evidence import give, prepare_agent_dir
from alluvium_like.errors import StaleTransition
from alluvium_like.gitrepo.merges import Conflict
from alluvium_like.guarded import link_into, own_path
from alluvium_like.lifecycle import CheckpointKind, Outcome, State
from alluvium_like.log import get_logger
from alluvium_like.stages.integrate.trial import read_tail
from alluvium_like.stages.parts import Parts
from alluvium_like.store.rows import Row
from alluvium_like.store.transaction import Transaction
from alluvium_like.task import Task
from alluvium_like.workspace import SYSTEM_NAME, TESTS_LOG_NAME

log = get_logger(__name__)

_EXCERPT_BYTES = 4_000
_TAIL_BYTES = 8_000
_FILES_SHOWN = 20
_NOOP = "noop"


async def move(parts: Parts, task: Task, to: State, reason: str) -> bool:
    """Move one task; false when it was withdrawn meanwhile."""
    try:
        await parts.store.transition(
            task.id, expect=task.state, to=to, reason=reason, in_attempt=task.attempt
        )
    except StaleTransition:
        return False
    return True


async def tell_merged(parts: Parts, task_id: str, commit: str) -> None:
    """Say for people that a task landed."""
    await _write_status(parts, task_id, "merged", merge_commit=commit)
    log.info("task_merged", task_id=task_id, commit=commit[:10])


async def wait(parts: Parts, task: Task, reason: str) -> None:
    """Say what finished work waits for before it can be coupled."""
    if task.state is State.INTEGRATING:
        await move(parts, task, State.WORKER_DONE, reason)
    else:
        await parts.store.write("explain_task", id=task.id, state=task.state, reason=reason)


async def mark_noop(parts: Parts, task: Task) -> None:
    """End a task whose merge leaves the base as it is."""
    reason = f"{parts.integration.base_branch} already holds all of it"
    try:
        async with parts.store.transaction("noop") as tx:
            held = await _taken_up(tx, task)
            await tx.finish(held.id, Outcome.NOOP, expect=State.INTEGRATING, reason=reason)
    except StaleTransition:
        return
    await parts.integration.forget(task.id)
    await _write_status(parts, task.id, _NOOP, reason)


async def send_back_conflict(parts: Parts, task: Task, base: str, conflict: Conflict) -> None:
    """Send a task back because it contradicts what the base holds."""
    integration = parts.integration
    files = await _excerpts(parts, conflict)
    request = messages.conflict_request(
        integration.base_branch, base[:12], task.branch, task.head_commit[:12], files
    )
    reason = messages.conflict_reason(integration.base_branch, conflict.paths)
    await _send_back(parts, task, reason, request)


async def send_back_revert(parts: Parts, task: Task, undone: Task, conflict: Conflict) -> None:
    """Let an agent take a commit back where later work stands in the way."""
    request = messages.revert_request(
        undone.name, undone.merge_commit, await _excerpts(parts, conflict)
    )
    reason = f"later work is in the way of the revert in {', '.join(conflict.paths[:5])}"
    await _send_back(parts, task, reason, request)


async def send_back_tests(parts: Parts, task: Task, failed: Row) -> None:
    """Send a task back because its tests failed where those of what is below it pass."""
    command, exit_text = failed["command"], failed["exit_text"]
    log_file = parts.workspace.trial_log(failed["id"])
    tail = await anyio.to_thread.run_sync(read_tail, log_file, _TAIL_BYTES)
    request = messages.tests_request(
        task.branch, parts.integration.base_branch, command, exit_text, tail
    )
    await link_log(parts, [task.id], failed)
    await _send_back(parts, task, messages.tests_reason(command, exit_text), request)


async def link_log(parts: Parts, task_ids: Sequence[str], trial: Row) -> None:
    """Show in the tasks' own folders what the tests that decided about them put out."""
    source = parts.workspace.trial_log(trial["id"])

    def link(task_id: str) -> None:
        with own_path(parts.workspace.tasks, task_id, SYSTEM_NAME) as folder:
            link_into(folder, TESTS_LOG_NAME, source)

    for task_id in task_ids:
        shown = parts.workspace.task(task_id).system / TESTS_LOG_NAME
        await parts.health.write_out(shown, partial(link, task_id))


async def ask_for_leave(parts: Parts, task: Task, paths: Sequence[str]) -> None:
    """Hold a task that touches protected paths until a person allows exactly this work."""
    reason = f"touches protected paths: {', '.join(paths[:5])}"
    await _ask_to_approve(parts, task, messages.leave_question(paths, task.id), reason)


async def ask_before_landing(parts: Parts, task: Task) -> None:
    """Hold a task whose settings say so until a person has approved exactly this work."""
    reason = "its settings ask for a person's approval before it lands"
    await _ask_to_approve(parts, task, messages.landing_question(task.id), reason)


async def _ask_to_approve(parts: Parts, task: Task, question: str, reason: str) -> None:
    try:
        async with parts.store.transaction("leave_asked") as tx:
            await tx.ask_human(task, question, reason=reason, kind=CheckpointKind.APPROVAL)
    except StaleTransition:
        return
    log.info("leave_asked", task_id=task.id, reason=reason)


async def ask_about_landed(parts: Parts, task: Task) -> None:
    """Put a task to a person because the base holds a commit that says it is this task's."""
    branch, commit = parts.integration.base_branch, task.merge_commit[:12]
    reason = f"{branch} holds commit {commit}, which says that it is this task's"
    try:
        async with parts.store.transaction("landed_asked") as tx:
            held = await _taken_up(tx, task)
            question = messages.landed_question(branch, commit)
            await tx.ask_human(held, question, reason=reason, merge_commit="")
    except StaleTransition:
        return


async def ask_about_merge(parts: Parts, task: Task, problem: str) -> None:
    """Put a task to a person because git could not even try to merge it."""
    question = (
        f"The task's branch cannot be merged: {problem}. 'retry' lets an agent begin again where "
        "this one began, 'cancel' ends the task."
    )
    try:
        async with parts.store.transaction("merge_asked") as tx:
            held = await tx.get(task.id)
            if held.state in (State.WORKER_DONE, State.INTEGRATING):
                await tx.ask_human(held, question, reason=f"cannot be merged: {problem}")
    except StaleTransition:
        return


async def _excerpts(parts: Parts, conflict: Conflict) -> list[tuple[str, str]]:
    history = parts.integration.history
    return [
        (path, await history.file_text(conflict.tree, path, _EXCERPT_BYTES))
        for path in conflict.paths[:_FILES_SHOWN]
    ]


async def _taken_up(tx: Transaction, task: Task) -> Task:
    """Return a task as integrating, from where every verdict starts."""
    if task.state is State.INTEGRATING:
        return task
    return await tx.transition(
        task.id, expect=State.WORKER_DONE, to=State.INTEGRATING, in_attempt=task.attempt
    )


async def _send_back(parts: Parts, task: Task, reason: str, request: str) -> None:
    limit = parts.settings.current.integration.max_revision_rounds
    rounds_left = task.revision_round < limit
    # Before the row: from then on the next attempt may start, and it has to find the request.
    await _deliver(parts, task.id, "revision_request.md", request)
    try:
        async with parts.store.transaction("sent_back") as tx:
            held = await _taken_up(tx, task)
            if rounds_left:
                await tx.transition(
                    task.id,
                    expect=State.INTEGRATING,
                    to=State.NEEDS_REVISION,
                    reason=reason,
                    in_attempt=task.attempt,
                    revision_round=task.revision_round + 1,
                    start_from="branch",
                )
            else:
                question = messages.escalation_question(reason, limit)
                await tx.ask_human(held, question, reason=reason)
    except StaleTransition:
        return
    status = State.NEEDS_REVISION if rounds_left else State.NEEDS_HUMAN
    await _write_status(parts, task.id, status, reason)
    log.info("task_sent_back", task_id=task.id, to=status, reason=reason)
    parts.wakes.dispatch.set()


async def _write_status(
    parts: Parts, task_id: str, status: str, reason: str = "", merge_commit: str | None = None
) -> None:
    """Write for people what the integrator said last; it is never read back."""
    said = {
        "status": status,
        "has_repo_changes": status != _NOOP,
        "reason": reason,
        "merge_commit": merge_commit,
    }
    await _deliver(parts, task_id, "integration.json", json.dumps(said, indent=2) + "\n")


async def _deliver(parts: Parts, task_id: str, name: str, text: str) -> None:
    folder = parts.workspace.task(task_id).agent

    def place() -> None:
        prepare_agent_dir(folder)  # a revert has had no agent yet, and an agent may remove it
        give(folder, name, text)

    await parts.health.write_out(folder / name, place)
