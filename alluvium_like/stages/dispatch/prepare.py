"""What an attempt starts with: where in Git, its workshop, its prompt, its command.

A first attempt starts at the base; a retried or uncounted one where the last one started; a
revision or an answer continues the branch with the new base merged in, and where that conflicts the
conflict is left in the worktree for the agent.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.agents.events import Usage
from alluvium_like.agents.evidence import give, prepare_agent_dir, put_aside
from alluvium_like.agents.prompt import (
    News,
    default_template,
    render_continuation,
    render_prompt,
)
from alluvium_like.config.agents import Profile
from alluvium_like.errors import RepositoryError
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunSpec, StopRequest
from alluvium_like.gitrepo.harvest import Start
from alluvium_like.gitrepo.merges import Conflict
from alluvium_like.gitrepo.workshop import Source, Workshop, merge_into_tree
from alluvium_like.guarded import drop_halves, own_path, place
from alluvium_like.masking import mask
from alluvium_like.stages.boxes import make_home
from alluvium_like.stages.dispatch.history import Known, was_cut_off
from alluvium_like.stages.dispatch.worker import Worker, environment_of, worker_of
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.profiles import Chosen
from alluvium_like.stages.setting_up import Site, set_up, take_ports
from alluvium_like.task import Attempt, Task, display_name


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt that can be started; `base` is the landed base that it is given.

    `spec` lacks what is run, which `worker` says; it is to go on with `session` if it can.
    """

    spec: RunSpec
    worker: Worker
    workshop: Workshop
    source: Source
    start: Start
    base: str
    transcript: Path
    session: str
    told: Usage
    """What runs with that session have told to have used."""
    private: tuple[str, ...]
    """The paths that its worktree was given and that never land, whatever [setup] says later."""


async def prepare(parts: Parts, task: Task, agent: Chosen, request: StopRequest) -> Prepared:
    """Make everything that an attempt by `agent` needs.

    Its ports are to be given back when nothing of it is left. Raises SetupFailed, SetupStopped,
    GitFailed, ConfigError, RepositoryError or OSError.
    """
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
    earlier = await parts.store.attempts(task.id)
    answers = await parts.store.answers(task.id)
    continues = task.start_from == "branch"
    known = Known(agent.name, continues, answers, earlier[: task.attempt - 1])
    ports = take_ports(parts, task.id)
    spec, worker = await anyio.to_thread.run_sync(
        _write, parts, task, workshop, source, agent.profile, known, ports
    )
    site = Site(
        workshop,
        "" if start.merge else start.commit,
        RunMarker(parts.workspace_id, RunKind.SETUP, task.id, task.attempt),
        parts.workspace.task(task.id).attempt(task.attempt) / "setup.log",
        worker.told,
    )
    private = await set_up(parts, site, request)
    transcript = parts.workspace.task(task.id).attempt(task.attempt) / "transcript.jsonl"
    given = known.session, known.told
    return Prepared(spec, worker, workshop, source, start, base, transcript, *given, private)


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


def _write(
    parts: Parts,
    task: Task,
    workshop: Workshop,
    source: Source,
    profile: Profile,
    known: Known,
    ports: Mapping[str, str],
) -> tuple[RunSpec, Worker]:
    """Write what the attempt is given, and say how it is run."""
    folder = parts.workspace.task(task.id)
    places = AttemptPlaces(
        task_id=task.id,
        task_dir=folder.root,
        agent_dir=folder.agent,
        worktree=workshop.tree,
        branch=task.branch,
        prompt_file=folder.prompt,
    )
    environment = {**environment_of(profile, places), **ports}
    environment["ALLUVIUM_BASE_BRANCH"] = parts.integration.base_branch
    if known.answers:
        environment["ALLUVIUM_ANSWERED"] = "1"
    with own_path(parts.workspace.tasks, task.id):
        prepare_agent_dir(folder.agent)
    if known.earlier:
        _keep_evidence(parts, task, known.earlier[-1])
    news = News(
        title=task.title,
        revision=task.revision_round > 0,
        cut_off=known.continues and was_cut_off(known.earlier),
        answers=known.answers,
    )
    inputs = _inventory(folder.input)
    prompt = render_prompt(_template(parts), places, news, inputs=inputs)
    give(folder.agent, folder.prompt.name, mask(prompt, keep=places.values().values()))
    continuation, config = render_continuation(places, news), parts.settings.current
    worker = worker_of(
        known.agent, profile, places, environment, prompt, config.prices, continuation
    ).boxed(parts.boxes, config, folder, workshop, source.integration)
    if worker.box is not None:
        make_home(folder, worker.box)
    output = folder.attempt(task.attempt)
    spec = RunSpec(
        argv=[],
        cwd=workshop.tree,
        environment={},
        marker=RunMarker(parts.workspace_id, RunKind.ATTEMPT, task.id, task.attempt),
        stdout_path=output / "stdout.log",
        stderr_path=output / "stderr.log",
        output_limit_bytes=profile.output_limit_bytes,
        timeout_seconds=profile.timeout_seconds,
        stall_seconds=profile.stall_seconds,
        grace_seconds=config.safety.shutdown_grace_seconds,
        disk_folders=(workshop.tree, workshop.git_dir, folder.agent),
        disk_limit_bytes=config.sandbox.max_disk_bytes,
    )
    filled = worker.with_session(known.session, known.told).fill(spec, None)
    command = {
        "agent": known.agent,
        "argv": [mask(word) for word in filled.argv],
        "cwd": str(workshop.tree),
        "environment": sorted(filled.environment),
        "timeout_seconds": profile.timeout_seconds,
    }
    with _attempt_folder(parts, output) as opened:
        place(opened, "command.json", json.dumps(command, indent=2) + "\n")
    return spec, worker


def _keep_evidence(parts: Parts, task: Task, last: Attempt) -> None:
    """Move aside what the last attempt left, with a note of how it went."""
    folder = parts.workspace.task(task.id)
    put_aside(folder.agent, last.number, messages.earlier_attempt(last))
    with _attempt_folder(parts, folder.attempt(last.number)) as opened:
        drop_halves(opened)


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
