"""Running the tests of a candidate, in a throw-away tree of its own.

The tree hangs on a small repository of its own, detached at the candidate: what tests do to it
harms nobody, and none of their processes outlives them. What they put out is streamed to the log
of this run, whole.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from alluvium_like.config import TestCommand
from alluvium_like.errors import SetupFailed
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunEnd
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.lifecycle import Ending
from alluvium_like.stages import escapes
from alluvium_like.stages.integrate.ledger import Gate
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.setting_up import SetupStopped, Site, set_up, take_ports
from alluvium_like.stages.shell import run_shell
from alluvium_like.stages.watch import Run

_OUTPUT_LIMIT_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Trial:
    """How the tests of one commit ended; `interrupted` says nothing about the commit."""

    green: bool
    interrupted: bool = False
    command: str = ""
    exit_text: str = ""


async def try_commit(parts: Parts, commit: str, gate: Gate, number: int) -> Trial:
    """Run the tests as an attempt is run, for they execute what agents wrote.

    Raises what `run_gate` raises, and StoreError.
    """
    boxed = parts.boxes.holds(parts.settings.current)
    watched = Run(f"the tests of {commit[:12]}", boxed=boxed)
    await escapes.begin(parts, watched)
    try:
        trial = await run_gate(parts, commit, gate, number)
        await escapes.end(parts, watched)
        return trial
    finally:
        escapes.leave(parts, watched)


async def run_gate(parts: Parts, commit: str, gate: Gate, number: int) -> Trial:
    """Run every test of the gate on `commit`; the first failure ends it.

    Raises GitFailed, PlaceLost or OSError where the tests could not even be run.
    """
    slot = parts.slot(f"trial-{number}")
    source, user = parts.integration.source(), parts.settings.identity
    try:
        await parts.warm.take(slot, source, commit=commit, branch=None, user=user)
        ports = take_ports(parts, slot.name)
        if not await _set_up(parts, slot, commit, number, ports):
            return Trial(green=False, interrupted=True)
        for test in gate.tests:
            end = await _run(parts, slot, test, {**gate.environment, **ports}, number)
            if end.ending in (Ending.SHUTDOWN, Ending.CANCELLED):
                return Trial(green=False, interrupted=True)
            if end.ending is not Ending.EXITED or end.exit_code != 0:
                if await parts.mend():
                    return Trial(green=False, interrupted=True)
                return Trial(False, False, test.command, _exit_text(end, test))
        return Trial(green=True)
    except SetupFailed as error:
        return Trial(False, False, "[setup]", str(error))
    finally:
        parts.ports.give_back(slot.name)
        with anyio.CancelScope(shield=True):
            await parts.warm.give_back(slot)
        parts.wakes.janitor.set()
        parts.wakes.warmer.set()


def read_tail(log_file: Path, limit: int) -> str:
    """Return the end of what a run put out; nothing where that is gone."""
    try:
        with log_file.open("rb") as stream:
            stream.seek(max(os.fstat(stream.fileno()).st_size - limit, 0))
            return stream.read(limit).decode(errors="replace")
    except OSError:
        return ""


async def _set_up(
    parts: Parts, slot: Workshop, commit: str, number: int, ports: Mapping[str, str]
) -> bool:
    """Make the tree ready as an agent's is; false where that was stopped. Raises SetupFailed."""
    output = parts.workspace.trial_log(number)
    marker = RunMarker(parts.workspace_id, RunKind.SETUP, slot.name, 0)
    site = Site(slot, commit, marker, output, {"ALLUVIUM_WORKTREE": str(slot.tree), **ports})
    request = parts.runs.begin(slot.name)
    try:
        await set_up(parts, site, request)
    except SetupStopped:
        return False
    finally:
        parts.runs.end(slot.name)
    return True


async def _run(
    parts: Parts, slot: Workshop, test: TestCommand, environment: dict[str, str], number: int
) -> RunEnd:
    config, borrowed = parts.settings.current, parts.integration.path
    network, commands = config.sandbox.tests_network, [test.command]
    box = await anyio.to_thread.run_sync(
        parts.boxes.of_tree, config, slot, borrowed, network, commands
    )
    request = parts.runs.begin(slot.name)
    try:
        return await run_shell(
            test,
            box=box,
            cwd=slot.tree,
            environment=environment,
            marker=RunMarker(parts.workspace_id, RunKind.TEST, slot.name, 0),
            output=parts.workspace.trial_log(number),
            limit_bytes=_OUTPUT_LIMIT_BYTES,
            disk_limit_bytes=config.sandbox.max_disk_bytes,
            grace_seconds=config.safety.shutdown_grace_seconds,
            stop=request,
        )
    finally:
        parts.runs.end(slot.name)


def _exit_text(end: RunEnd, test: TestCommand) -> str:
    if end.ending is Ending.TIMED_OUT:
        return f"did not end within {test.timeout_seconds:g} s"
    if end.ending is Ending.BUDGET:
        return end.reason
    if end.ending is Ending.NOT_STARTED:
        return f"could not be started: {end.reason}"
    return f"ended with exit code {end.exit_code}"
