"""What an attempt starts with: where in Git, its workshop, its prompt, its command.

A first attempt starts at the base; a retried or uncounted one where the last one started; a
revision or an answer continues the branch with the new base merged in, and where that conflicts the
conflict is left in the worktree for the agent.
"""

import json
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.agents.command import AttemptPlaces, build_command, build_environment
from alluvium_like.agents.evidence import give, prepare_agent_dir, put_aside
from alluvium_like.agents.prompt import default_template, render_prompt
from alluvium_like.errors import RepositoryError
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunSpec
from alluvium_like.gitrepo.harvest import Start
from alluvium_like.gitrepo.merges import Conflict
from alluvium_like.gitrepo.workshop import Source, Workshop, merge_into_tree
from alluvium_like.guarded import drop_halves, own_path, place
from alluvium_like.stages.parts import Parts
from alluvium_like.task import Task, display_name


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt that can be started; `base` is the landed base that it is given."""

    spec: RunSpec
    workshop: Workshop
    source: Source
    start: Start
    base: str


async def prepare(parts: Parts, task: Task) -> Prepared:
    """Make everything that the attempt needs. Raises GitFailed, RepositoryError or OSError."""
    with suppress(RepositoryError):  # the base is not there now: the lane says so, and waits
        if await parts.integration.refresh():
            parts.wakes.integrate.set()
    source = parts.integration.source()
    again = task.start_from == "same" and bool(task.start_commit)
    start = await (_restart if again else _choose_start)(parts, task)
    base = task.base_commit if again else source.base_commit
    workshop = parts.workshop(task.id)
    user = parts.settings.identity
    await parts.warm.take(workshop, source, commit=start.commit, branch=task.branch, user=user)
    if start.merge:
        await merge_into_tree(parts.git, workshop, start.merge, user)
    answers = await parts.store.answers(task.id)
    spec = await anyio.to_thread.run_sync(_write_and_describe, parts, task, workshop, answers)
    return Prepared(spec, workshop, source, start, base)


async def _choose_start(parts: Parts, task: Task) -> Start:
    integration = parts.integration
    base = integration.seen
    if task.start_from != "branch" or not task.head_commit:
        return Start(base)
    if await integration.history.contains(base, task.head_commit):
        return Start(task.head_commit)
    merged = await integration.merge_work(base, task.head_commit, task.base_commit)
    if isinstance(merged, Conflict):
        return await _with_conflict(parts, task.head_commit, base)
    who = parts.settings.identity
    rewritten = not await integration.still_landed(task.base_commit)
    commit = await integration.commit(
        merged.tree,
        [base] if rewritten else [task.head_commit, base],
        messages.base_merged_in(integration.base_branch),
        author=who,
        committer=who,
    )
    return Start(commit)


async def _restart(parts: Parts, task: Task) -> Start:
    if not task.start_merge:
        return Start(task.start_commit)
    return await _with_conflict(parts, task.start_commit, task.start_merge)


async def _with_conflict(parts: Parts, head: str, base: str) -> Start:
    merged = await parts.integration.merge(head, base)
    return Start(head, base, merged if isinstance(merged, Conflict) else None)


def _write_and_describe(
    parts: Parts, task: Task, workshop: Workshop, answers: list[tuple[str, str]]
) -> RunSpec:
    config = parts.settings.current
    folder = parts.workspace.task(task.id)
    places = AttemptPlaces(
        task_id=task.id,
        task_dir=folder.root,
        agent_dir=folder.agent,
        worktree=workshop.tree,
        branch=task.branch,
        prompt_file=folder.prompt,
    )
    with own_path(parts.workspace.tasks, task.id):
        prepare_agent_dir(folder.agent)
    if task.attempt > 1:
        put_aside(folder.agent, task.attempt - 1)
        with _attempt_folder(parts, folder.attempt(task.attempt - 1)) as opened:
            drop_halves(opened)
    prompt = render_prompt(
        _template(parts),
        places,
        title=task.name,
        inputs=_inventory(folder.input),
        revision=task.revision_round > 0,
        answers=answers,
    )
    give(folder.agent, folder.prompt.name, prompt)
    argv = build_command(config.agent.command, places)
    environment = build_environment(places, pass_names=config.agent.env, source=os.environ)
    environment["ALLUVIUM_BASE_BRANCH"] = parts.integration.base_branch
    if answers:
        environment["ALLUVIUM_ANSWERED"] = "1"
    command = {
        "argv": argv,
        "cwd": str(workshop.tree),
        "environment": sorted(environment),
        "timeout_seconds": config.agent.timeout_seconds,
    }
    output = folder.attempt(task.attempt)
    with _attempt_folder(parts, output) as opened:
        place(opened, "command.json", json.dumps(command, indent=2) + "\n")
    return RunSpec(
        argv=argv,
        cwd=workshop.tree,
        environment=environment,
        marker=RunMarker(parts.workspace_id, RunKind.ATTEMPT, task.id, task.attempt),
        stdin=prompt.encode(errors="surrogateescape"),
        stdout_path=output / "stdout.log",
        stderr_path=output / "stderr.log",
        output_limit_bytes=config.agent.output_limit_bytes,
        timeout_seconds=config.agent.timeout_seconds,
        grace_seconds=config.safety.shutdown_grace_seconds,
    )


def _attempt_folder(parts: Parts, path: Path) -> AbstractContextManager[int]:
    return own_path(parts.workspace.tasks, *path.relative_to(parts.workspace.tasks).parts)


def _template(parts: Parts) -> str:
    path = parts.workspace.prompt_template
    if path.exists():
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    return default_template()


def _inventory(folder: Path) -> list[str]:
    """List what was dropped, names only, nothing followed; folders by what is in them."""
    names: list[bytes] = []
    pending = [b""]
    while pending:
        inside = pending.pop()
        # An agent of an earlier attempt may have locked a folder or taken it away.
        with suppress(OSError), os.scandir(os.fsencode(folder) + b"/" + inside) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                (pending if is_folder else names).append(inside + entry.name + b"/" * is_folder)
    return [display_name(name) for name in sorted(names)]
