"""What the integrator tells a task: its row, and the files for agent and person.

The files are projections: when they cannot be written the verdict stands all the same.
"""

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.agents.evidence import give
from alluvium_like.errors import StaleTransition
from alluvium_like.gitrepo.merges import Conflict
from alluvium_like.guarded import append, own_path, place
from alluvium_like.lifecycle import Outcome, State
from alluvium_like.log import get_logger
from alluvium_like.stages.integrate.trial import Tell, Trial
from alluvium_like.stages.parts import Parts
from alluvium_like.task import Task
from alluvium_like.workspace import SYSTEM_NAME, TESTS_LOG_NAME

log = get_logger(__name__)

_EXCERPT_BYTES = 4_000
_FILES_SHOWN = 20


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
    text = messages.integration_json("merged", "", has_repo_changes=True, merge_commit=commit)
    await _deliver(parts, task_id, "integration.json", text)
    log.info("task_merged", task_id=task_id, commit=commit[:10])


async def mark_noop(parts: Parts, task: Task) -> None:
    """End a task whose merge leaves the base as it is."""
    reason = f"{parts.integration.base_branch} already holds all of it"
    try:
        async with parts.store.transaction() as tx:
            moved = await tx.transition(
                task.id,
                expect=State.WORKER_DONE,
                to=State.INTEGRATING,
                in_attempt=task.attempt,
            )
            await tx.finish(moved.id, Outcome.NOOP, expect=State.INTEGRATING, reason=reason)
    except StaleTransition:
        return
    await parts.integration.forget(task.id)
    text = messages.integration_json("noop", reason, has_repo_changes=False)
    await _deliver(parts, task.id, "integration.json", text)


async def send_back_conflict(parts: Parts, task: Task, base: str, conflict: Conflict) -> None:
    """Send a task back because it contradicts what the base holds."""
    integration = parts.integration
    files = [
        (path, await integration.history.file_text(conflict.tree, path, _EXCERPT_BYTES))
        for path in conflict.paths[:_FILES_SHOWN]
    ]
    request = messages.conflict_request(
        integration.base_branch, base[:12], task.branch, task.head_commit[:12], files
    )
    reason = messages.conflict_reason(integration.base_branch, conflict.paths)
    await _send_back(parts, task, reason, request)


async def send_back_tests(parts: Parts, task: Task, trial: Trial) -> None:
    """Send a task back because its tests failed where those of the base pass."""
    request = messages.tests_request(
        task.branch, parts.integration.base_branch, trial.command, trial.exit_text, trial.tail
    )
    await _send_back(parts, task, messages.tests_reason(trial.command, trial.exit_text), request)


async def ask_about_merge(parts: Parts, task: Task, problem: str) -> None:
    """Put a task to a person because git could not even try to merge it."""
    question = f"The task's branch cannot be merged: {problem}. Answer, retry or cancel."
    try:
        async with parts.store.transaction() as tx:
            held = await tx.get(task.id)
            if held.state in (State.WORKER_DONE, State.INTEGRATING):
                await tx.ask_human(held, question, reason=f"cannot be merged: {problem}")
    except StaleTransition:
        return


def tests_log(parts: Parts, task_id: str) -> Tell:
    """Return where the output of a new trial of one task goes."""
    tasks = parts.workspace.tasks
    started = False

    def tell(data: bytes) -> None:
        nonlocal started
        with own_path(tasks, task_id, SYSTEM_NAME) as folder:
            if not started:
                place(folder, TESTS_LOG_NAME, "")
            append(folder, TESTS_LOG_NAME, data)
        started = True

    return tell


def base_tests_log(parts: Parts) -> Tell:
    """Return where the output of a trial of the base itself goes."""

    def tell(data: bytes) -> None:
        with own_path(parts.workspace.logs) as folder:
            append(folder, "base-tests.log", data)

    return tell


async def _send_back(parts: Parts, task: Task, reason: str, request: str) -> None:
    limit = parts.settings.current.integration.max_revision_rounds
    rounds_left = task.revision_round < limit
    # Before the row: from then on the next attempt may start, and it has to find the request.
    await _deliver(parts, task.id, "revision_request.md", request)
    try:
        async with parts.store.transaction() as tx:
            held = task
            if task.state is State.WORKER_DONE:
                held = await tx.transition(
                    task.id,
                    expect=State.WORKER_DONE,
                    to=State.INTEGRATING,
                    in_attempt=task.attempt,
                )
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
    text = messages.integration_json(status, reason, has_repo_changes=True)
    await _deliver(parts, task.id, "integration.json", text)
    log.info("task_sent_back", task_id=task.id, to=status, reason=reason)
    parts.wakes.dispatch.set()


async def _deliver(parts: Parts, task_id: str, name: str, text: str) -> None:
    folder = parts.workspace.task(task_id).agent
    try:
        await anyio.to_thread.run_sync(give, folder, name, text)
    except OSError:
        log.exception("file_not_delivered", task_id=task_id, file=name)
