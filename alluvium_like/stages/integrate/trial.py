"""Running the test commands on one candidate, in a throw-away tree of its own.

The tree hangs on a small repository of its own, detached at the candidate: what tests do to it
harms nobody, and none of their processes outlives them.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from alluvium_like.agents.command import base_environment
from alluvium_like.config import TestCommand
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunEnd, RunSpec, run_supervised
from alluvium_like.gitrepo.workshop import Workshop, make_workshop, set_aside
from alluvium_like.guarded import open_folder, read_regular
from alluvium_like.lifecycle import Ending
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts

log = get_logger(__name__)

Tell = Callable[[bytes], None]
_OUTPUT_LIMIT_BYTES = 10_000_000
_TAIL_BYTES = 8_000


@dataclass(frozen=True, slots=True)
class Trial:
    """How the tests of one commit ended; `interrupted` says nothing about the commit."""

    green: bool
    interrupted: bool = False
    command: str = ""
    exit_text: str = ""
    tail: str = ""


async def try_commit(parts: Parts, commit: str, tell: Tell) -> Trial:
    """Run every test command on `commit`, the first failure ends it. Raises GitFailed, OSError.

    The output of each goes to `tell`, which blocks and may raise OSError: a log is no verdict.
    """
    slot = parts.slot(f"slot-{secrets.token_hex(6)}")
    await make_workshop(
        parts.git,
        slot,
        parts.integration.source(),
        commit=commit,
        branch=None,
        user=parts.settings.identity,
    )
    output = parts.workspace.slots / f"{slot.name}.log"
    try:
        for test in parts.settings.current.tests:
            end = await _run(parts, slot, test, output)
            text = await anyio.to_thread.run_sync(_take, output)
            await _tell(tell, f"$ {test.command}\n".encode() + text)
            if end.ending in (Ending.SHUTDOWN, Ending.CANCELLED):
                return Trial(green=False, interrupted=True)
            if end.ending is not Ending.EXITED or end.exit_code != 0:
                tail = text[-_TAIL_BYTES:].decode(errors="replace")
                return Trial(False, False, test.command, _exit_text(end, test), tail)
        return Trial(green=True)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(set_aside, slot, parts.workspace.trash)
        parts.wakes.janitor.set()


async def _tell(tell: Tell, data: bytes) -> None:
    try:
        await anyio.to_thread.run_sync(tell, data)
    except OSError:
        log.exception("tests_log_not_written")


def _take(output: Path) -> bytes:
    """Take the output of one test command; what tests did to the file is no output."""
    with open_folder(output.parent) as folder:
        try:
            data = read_regular(folder, output.name, _OUTPUT_LIMIT_BYTES * 2)
        except FileNotFoundError:
            return b""
        os.unlink(output.name, dir_fd=folder)
        return data or b""


async def _run(parts: Parts, slot: Workshop, test: TestCommand, output: Path) -> RunEnd:
    config = parts.settings.current
    spec = RunSpec(
        argv=["/bin/sh", "-c", test.command],
        cwd=slot.tree,
        environment=base_environment(os.environ, ()),
        marker=RunMarker(parts.workspace_id, RunKind.TEST, slot.name, 0),
        stdin=None,
        stdout_path=output,
        stderr_path=output,
        output_limit_bytes=_OUTPUT_LIMIT_BYTES,
        timeout_seconds=test.timeout_seconds,
        grace_seconds=min(config.safety.shutdown_grace_seconds, 5.0),
    )
    request = parts.runs.begin(slot.name)
    try:
        return await run_supervised(spec, on_started=_not_stored, stop=request)
    finally:
        parts.runs.end(slot.name)


async def _not_stored(_: ProcessIdentity) -> None:
    """Tests belong to no attempt: a restart finds their survivors by the marker."""


def _exit_text(end: RunEnd, test: TestCommand) -> str:
    if end.ending is Ending.TIMED_OUT:
        return f"did not end within {test.timeout_seconds:g} s"
    if end.ending is Ending.NOT_STARTED:
        return f"could not be started: {end.reason}"
    return f"ended with exit code {end.exit_code}"
