"""One attempt from its start to the row that its end means.

The verdict comes from the exit, from Git and from what the agent claims, by `judge_attempt`. Every
transition is fenced by the attempt's number, so that a late end never touches a newer attempt.
Work is fetched whatever the verdict: a failed attempt's branch is kept.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import anyio.to_thread
import structlog

from alluvium_like import messages
from alluvium_like.agents.evidence import ClaimRead, read_claim, read_question
from alluvium_like.agents.outcome import NOT_RUN, Judged
from alluvium_like.deletion import make_movable
from alluvium_like.errors import AlluviumError, PlaceLost, SetupFailed
from alluvium_like.execution.process import RunEnd, StopRequest
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.harvest import Harvest, harvest
from alluvium_like.gitrepo.submodules import find_unknown
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.guarded import own_path, place
from alluvium_like.lifecycle import PARKING, AgentOutcome, Ending
from alluvium_like.log import get_logger
from alluvium_like.place import Place
from alluvium_like.stages import escapes
from alluvium_like.stages.boxes import drop_caches
from alluvium_like.stages.dispatch.prepare import Prepared, prepare
from alluvium_like.stages.dispatch.running import Running
from alluvium_like.stages.dispatch.tampering import Given, look_after, look_before
from alluvium_like.stages.dispatch.verdict import Seen, conclude
from alluvium_like.stages.parts import Parts, last_pulled
from alluvium_like.stages.profiles import Chosen, note_fared
from alluvium_like.stages.setting_up import SetupStopped
from alluvium_like.stages.watch import Run
from alluvium_like.task import Task
from alluvium_like.trouble import Trouble, trouble_of
from alluvium_like.workspace import SYSTEM_NAME

log = get_logger(__name__)

_SHOW_HOW_IT_FARES = frozenset({Ending.EXITED, Ending.TIMED_OUT, Ending.STALLED})
"""Endings that are the program's own; what it complained of when somebody stopped it may pass."""


async def run_attempt(
    parts: Parts, task: Task, agent: Chosen, process_gone: Callable[[], None]
) -> None:
    """Run one attempt of a task in state running; the row afterwards says what became of it.

    `process_gone` is called when nothing of the attempt's processes is left. The workshop is gone
    before the row moves: from then on the next attempt may begin.
    """
    with structlog.contextvars.bound_contextvars(task_id=task.id, attempt=task.attempt):
        request = parts.runs.begin(task.id)
        boxed = parts.boxes.holds(parts.settings.current, agent.profile)
        watched = Run(task.id, task.id, task.attempt, boxed)
        try:
            seen = await _run_and_look(parts, task, agent, request, process_gone, watched)
            escape = ""
            if seen.end.ending is not Ending.MACHINE:  # else the look may have to wait, too
                escape = await parts.health.through(lambda: escapes.end(parts, watched))
        finally:
            escapes.leave(parts, watched)
            parts.ports.give_back(task.id)
            parts.runs.end(task.id)
        if seen.end.ending in _SHOW_HOW_IT_FARES:
            await parts.health.through(lambda: note_fared(parts, agent.name, seen.fared))
        await conclude(parts, task, _accused(seen, escape))
        if seen.work is not None and seen.work.changed:
            await _write_patch(parts, task.id, seen.work)


async def _run_and_look(
    parts: Parts,
    task: Task,
    agent: Chosen,
    request: StopRequest,
    process_gone: Callable[[], None],
    watched: Run,
) -> Seen:
    seen = await _make_ready(parts, task, agent, request, watched)
    if isinstance(seen, Seen):
        return seen
    prepared, home, given = seen
    task = replace(task, input_seal=given.seal)
    end, fared = await _run(parts, task, prepared, request)
    process_gone()
    if prepared.worker.box is not None:
        await _drop_caches(parts, task)
    if end.ending is Ending.EXITED:
        end = await _excused(parts, end)
    work = None
    if end.ending not in (Ending.SHUTDOWN, Ending.MACHINE):
        given = await parts.health.through(lambda: look_after(parts, task))
        there = await anyio.to_thread.run_sync(home.is_there)
        if not there and end.ending is not Ending.CANCELLED:
            end = replace(end, ending=Ending.HELD)
            given = Given(task.input_seal, messages.folder_gone(task.id))
        work = await _take_in(parts, task, prepared, failed=_failed(end, fared))
        if work.problem:
            work = await _keep_workshop(parts, task, prepared, work)
    await _clear_away(parts, prepared.workshop, whole=work is None or not work.problem)
    return Seen(agent, end, fared, given, work, *await _read_words(parts, task))


async def _make_ready(
    parts: Parts, task: Task, agent: Chosen, request: StopRequest, watched: Run
) -> tuple[Prepared, Place, Given] | Seen:
    """Prepare an attempt; where it cannot be started, return how it ended."""
    given = Given(task.input_seal)
    try:
        await parts.mend()
        given = await look_before(parts, task)
        if given.alarm:
            return Seen(agent, RunEnd(Ending.HELD, None, given.alarm, 0.0, 0), NOT_RUN, given)
        if given.seal != task.input_seal:
            await parts.store.write("seal_input", id=task.id, input_seal=given.seal)
        await escapes.begin(parts, watched)
        prepared = await prepare(parts, task, agent, request)
        home = await anyio.to_thread.run_sync(Place.of, parts.workspace.task(task.id).root)
    except SetupStopped as stopped:
        await _clear_away(parts, parts.workshop(task.id), whole=False)
        return Seen(agent, RunEnd(stopped.ending, None, str(stopped), 0.0, 0), NOT_RUN, given)
    except (AlluviumError, OSError) as error:
        ending = Ending.MACHINE if await parts.tell(error) else Ending.NOT_STARTED
        if isinstance(error, SetupFailed):
            log.warning("attempt_not_set_up", why=str(error))
        elif ending is Ending.NOT_STARTED:
            log.exception("attempt_not_prepared")
        end = RunEnd(ending, None, f"could not be prepared: {error}", 0.0, 0)
        await _clear_away(parts, parts.workshop(task.id), whole=False)
        return Seen(agent, end, NOT_RUN, given)
    return prepared, home, given


async def _drop_caches(parts: Parts, task: Task) -> None:
    folder = parts.workspace.task(task.id)
    try:
        await anyio.to_thread.run_sync(drop_caches, folder, parts.workspace.trash)
    except OSError as error:  # they stay where they are, and harm nobody
        log.warning("caches_not_dropped", why=str(error))


def _accused(seen: Seen, escape: str) -> Seen:
    """Put the work of a suspect to a person, whatever else its attempt came to."""
    if not escape or seen.end.ending is Ending.CANCELLED:
        return seen
    alarm = "; ".join(filter(None, (seen.given.alarm, escape)))
    given, end = replace(seen.given, alarm=alarm), replace(seen.end, ending=Ending.HELD)
    return replace(seen, given=given, end=end)


async def _read_words(parts: Parts, task: Task) -> tuple[ClaimRead, str | None]:
    """Read what the agent says of its work, and what it asks."""
    folder = parts.workspace.task(task.id).agent
    return await parts.health.through(
        lambda: anyio.to_thread.run_sync(lambda: (read_claim(folder), read_question(folder)))
    )


def _failed(end: RunEnd, fared: Judged) -> bool:
    """Tell whether an attempt counts as failed; one that could not go on keeps its work."""
    if end.ending is Ending.BUDGET or fared.outcome in PARKING:
        return False
    return end.ending is not Ending.EXITED or fared.outcome is not AgentOutcome.OK


async def _excused(parts: Parts, end: RunEnd) -> RunEnd:
    """Excuse an agent that failed while something of the daemon's own was missing.

    One that did well waits until it is there again.
    """
    if end.exit_code == 0:
        await parts.health.through(parts.mend)
        return end
    try:
        missing = "a folder of the daemon's own was missing" if await parts.mend() else ""
    except PlaceLost as lost:
        parts.health.tell(lost)
        missing = str(lost)
    return replace(end, ending=Ending.MACHINE, reason=missing) if missing else end


async def _clear_away(parts: Parts, workshop: Workshop, *, whole: bool) -> None:
    """Take the workshop away; the files of a `whole` one may serve another task."""
    if whole:
        await parts.warm.give_back(workshop)
    else:
        await parts.warm.throw_away(workshop)
    parts.wakes.janitor.set()
    parts.wakes.warmer.set()


async def _keep_workshop(parts: Parts, task: Task, prepared: Prepared, work: Harvest) -> Harvest:
    """Keep the repository of an attempt whose work could not be taken as it is, for a person."""
    tasks = parts.workspace.tasks
    where = parts.workspace.task(task.id).attempt(task.attempt).relative_to(tasks)

    def keep() -> None:
        with own_path(tasks, *where.parts) as folder:
            make_movable(prepared.workshop.git_dir)
            with step("workshop.keep"):
                os.rename(prepared.workshop.git_dir, "workshop.git", dst_dir_fd=folder)

    try:
        await anyio.to_thread.run_sync(keep)
    except OSError:  # it is gone: that is the problem
        log.exception("workshop_not_kept")
        return work
    kept = f"{work.problem}; its repository is kept: tasks/{where}/workshop.git"
    return replace(work, problem=kept)


async def _write_patch(parts: Parts, task_id: str, work: Harvest) -> None:
    """Write patch.diff for people, after the row: nobody waits for it."""

    try:
        diff = await parts.integration.history.diff(work.start, work.commit)
    except AlluviumError:
        log.exception("patch_not_written")
        return

    ours = parts.workspace.task(task_id)

    def write() -> None:
        if ours.is_there():
            with own_path(parts.workspace.tasks, task_id, SYSTEM_NAME) as folder:
                place(folder, "patch.diff", diff)

    await parts.health.write_out(ours.system / "patch.diff", write)


async def _run(
    parts: Parts, task: Task, prepared: Prepared, request: StopRequest
) -> tuple[RunEnd, Judged]:
    log.info("attempt_starting", agent=prepared.worker.name, start=prepared.start.commit[:10])
    try:
        end, fared = await Running(parts, task, prepared, request).run()
    except (AlluviumError, OSError) as error:  # nothing was started, or nothing of it is left
        if not parts.health.tell(error):
            raise
        end = RunEnd(Ending.MACHINE, None, f"could not be started: {error}", 0.0, 0)
        return end, NOT_RUN
    log.info(
        "attempt_ended",
        ending=end.ending,
        outcome=fared.outcome,
        exit_code=end.exit_code,
        seconds=round(end.duration_seconds, 3),
        survivors=end.survivors,
    )
    return end, fared


async def _take_in(parts: Parts, task: Task, prepared: Prepared, *, failed: bool) -> Harvest:
    """Take in what an attempt left.

    What a `failed` one left does not wait for room on the disk: that may be what takes it all up.
    """

    async def look() -> Harvest:
        pulled = await last_pulled(parts)
        config = parts.settings.current
        now = config.setup.private
        reader = await anyio.to_thread.run_sync(
            parts.boxes.reader_of,
            config,
            prepared.worker.profile,
            prepared.workshop,
            prepared.source.integration,
        )
        try:
            work = await harvest(
                parts.git,
                prepared.workshop,
                prepared.source,
                task_id=task.id,
                branch=task.branch,
                start=prepared.start,
                author=parts.settings.identity,
                private=tuple(dict.fromkeys((*prepared.private, *now))),
                others=pulled.tip if pulled and pulled.task_id == task.id else "",
                reader=reader,
            )
            if work.problem or not work.changed:
                return work
            store, owner = prepared.source.integration, parts.owner
            problem = await find_unknown(parts.git, store, prepared.base, work.commit, owner)
            return replace(work, problem=problem)
        except (AlluviumError, OSError) as error:
            if failed and trouble_of(error) is Trouble.DISK:
                return _nothing_taken(prepared, error)
            await parts.mend()  # raises where the task is not to blame, and then this is done again
            raise

    try:
        return await parts.health.through(look)
    except (AlluviumError, OSError) as error:
        log.exception("harvest_failed")
        return _nothing_taken(prepared, error)


def _nothing_taken(prepared: Prepared, error: Exception) -> Harvest:
    start = prepared.start.commit
    return Harvest(start, start, changed=False, problem=str(error))
