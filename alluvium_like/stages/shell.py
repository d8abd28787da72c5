"""The owner's shell commands, for set-ups as for tests: one at a time, supervised, into one log.

Each stands in the log before its output. They belong to no attempt: what outlives the daemon is
found by its marker.
"""

from pathlib import Path
from typing import Final

import anyio.to_thread

from alluvium_like.config import TestCommand
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.marker import RunMarker
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest, run_supervised
from alluvium_like.guarded import append, open_folder

_LONGEST_GRACE_SECONDS: Final = 5.0


async def run_shell(
    command: TestCommand,
    *,
    cwd: Path,
    environment: dict[str, str],
    marker: RunMarker,
    output: Path,
    limit_bytes: int,
    grace_seconds: float,
    stop: StopRequest,
) -> RunEnd:
    """Run a command to its end, its deadline or `stop`; at most `limit_bytes` of it are kept.

    Raises OSError.
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
    )
    return await run_supervised(spec, on_started=_not_stored, stop=stop)


async def _not_stored(_: ProcessIdentity) -> None:
    """No row holds its process: a restart goes by the marker."""


def _begin_output(output: Path, command: str) -> int:
    """Append the command to the file that its output goes to; return the size of that."""
    with open_folder(output.parent) as folder:
        append(folder, output.name, f"$ {command}\n".encode(errors="backslashreplace"))
    return output.stat().st_size
