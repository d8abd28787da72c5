"""The owner's shell commands, for set-ups as for tests: one at a time, supervised, into one log.

Each stands in the log before its output. They belong to no attempt: what outlives the daemon is
found by its marker.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.config import TestCommand
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.marker import RunMarker
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest
from alluvium_like.guarded import append, open_folder
from alluvium_like.log import get_logger
from alluvium_like.sandbox.box import Box
from alluvium_like.sandbox.run import run_in_box

log = get_logger(__name__)

_LONGEST_GRACE_SECONDS: Final = 5.0


async def run_shell(
    command: TestCommand,
    *,
    box: Box | None,
    cwd: Path,
    environment: dict[str, str],
    marker: RunMarker,
    output: Path,
    limit_bytes: int,
    disk_limit_bytes: int,
    grace_seconds: float,
    stop: StopRequest,
) -> RunEnd:
    """Run a command to its end, its deadline or `stop`; at most `limit_bytes` of it are kept.

    What it was not let reach stands in the log, too. Raises OSError.
    """
    size = await anyio.to_thread.run_sync(_begin_output, output, command.command)
    spec = RunSpec(
        argv=["/bin/sh", "-c", command.command],
        cwd=cwd,
        environment=environment,
        marker=marker,
        stdout_path=output,
        stderr_path=output,
        output_limit_bytes=size + limit_bytes,
        timeout_seconds=command.timeout_seconds,
        grace_seconds=min(grace_seconds, _LONGEST_GRACE_SECONDS),
        disk_folders=(cwd,),
        disk_limit_bytes=disk_limit_bytes,
    )
    refused: list[str] = []

    def note(host: str, port: int, reason: str) -> None:
        refused.append(messages.not_let_reach(host, port, reason))
        log.warning("network_refused", reason=refused[-1], run=str(marker))

    end = await run_in_box(spec, box, on_started=_not_stored, stop=stop, on_refused=note)
    if refused:
        await anyio.to_thread.run_sync(_append_lines, output, refused)
    return end


async def _not_stored(_: ProcessIdentity) -> None:
    """No row holds its process: a restart goes by the marker."""


def _append_lines(output: Path, lines: Sequence[str]) -> None:
    with open_folder(output.parent) as folder:
        append(folder, output.name, "".join(f"{line}\n" for line in lines).encode())


def _begin_output(output: Path, command: str) -> int:
    """Append the command to the file that its output goes to; return the size of that."""
    with open_folder(output.parent) as folder:
        append(folder, output.name, f"$ {command}\n".encode(errors="backslashreplace"))
    return output.stat().st_size
