"""A run that gets nowhere is ended; one that prints or works is let be, however long it takes."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from test_execution_runs import _daemon_like as _daemon_like
from test_execution_runs import lives, make_spec, run

from alluvium_like.execution import stall
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.lifecycle import Ending

STALL_SECONDS = 1.2


def python(text: str) -> list[str]:
    return [sys.executable, "-S", "-c", textwrap.dedent(text)]


async def test_what_neither_prints_nor_works_is_ended_with_all_its_processes(
    tmp_path: Path,
) -> None:
    seen: list[ProcessIdentity] = []

    async def started(main: ProcessIdentity) -> None:
        seen.append(main)

    argv = ["sh", "-c", "echo begun; sleep 600 & sleep 600"]
    end = await run(make_spec(tmp_path, argv, stall_seconds=STALL_SECONDS), started)
    assert end.ending is Ending.STALLED
    assert end.reason == "neither printed nor worked for 1.2 s"
    assert STALL_SECONDS <= end.duration_seconds < 10
    assert await lives(seen) == [False]


async def test_a_loop_that_waits_does_not_work(tmp_path: Path) -> None:
    """It wakes up twenty times in a second, as programs do that ask again and again."""
    idle = "import select\nwhile True: select.select([], [], [], 0.05)"
    end = await run(make_spec(tmp_path, python(idle), stall_seconds=STALL_SECONDS))
    assert end.ending is Ending.STALLED


@pytest.mark.parametrize(
    "argv",
    [
        python("import time\nwhile time.process_time() < 1.5: pass"),
        ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo; sleep 0.3; done"],
        ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo >&2; sleep 0.3; done"],
        # The work is done by children of children, each of which ends soon.
        ["sh", "-c", f"i=0; while [ $i -lt 120 ]; do {sys.executable} -c 'sum(range(10**6))'; "
         "i=$((i+1)); done"],
    ],
    ids=["computes", "prints", "complains", "lets others compute"],
)  # fmt: skip
async def test_what_gets_on_is_let_be(tmp_path: Path, argv: list[str]) -> None:
    end = await run(make_spec(tmp_path, argv, stall_seconds=STALL_SECONDS))
    assert (end.ending, end.exit_code) == (Ending.EXITED, 0)
    assert end.duration_seconds > STALL_SECONDS


async def test_without_a_limit_nothing_is_a_stall(tmp_path: Path) -> None:
    end = await run(make_spec(tmp_path, ["sleep", "0.5"], stall_seconds=0))
    assert end.ending is Ending.EXITED


async def test_a_look_that_fails_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no descriptors left, nobody knows whether it works."""

    async def fail(_: object) -> float:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(stall, "_used", fail)
    end = await run(make_spec(tmp_path, ["sleep", "1"], stall_seconds=0.4))
    assert (end.ending, end.exit_code) == (Ending.EXITED, 0)


def test_time_in_which_we_were_stopped_makes_no_stall(tmp_path: Path) -> None:
    """As when a machine sleeps, or a container is frozen with everything in it."""
    watched = f"""
        import asyncio, sys, uuid
        from pathlib import Path
        from alluvium_like.execution import stall
        from alluvium_like.execution.marker import RunKind, RunMarker
        from alluvium_like.execution.process import RunSpec, StopRequest, run_supervised

        async def look(run, used=stall._used):
            print("looked", flush=True)
            return await used(run)

        async def started(main):
            print(main.pid, flush=True)

        stall._used = look

        async def main():
            folder = Path({str(tmp_path)!r})
            spec = RunSpec(
                ["sh", "-c", "read line < go; sleep 0.2"], folder, {{"PATH": {os.defpath!r}}},
                RunMarker(uuid.uuid4().hex, RunKind.ATTEMPT, "a", 1), folder / "out",
                folder / "err", 1000, 60.0, 0.2, stall_seconds=3.0)
            end = await run_supervised(spec, on_started=started, stop=StopRequest())
            print(end.ending, flush=True)

        asyncio.run(main())
    """
    os.mkfifo(tmp_path / "go")
    daemon = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(watched)], stdout=subprocess.PIPE, text=True
    )
    with daemon:
        assert daemon.stdout is not None
        agent = int(daemon.stdout.readline())
        assert daemon.stdout.readline() == "looked\n"
        for process in (daemon.pid, agent):
            os.kill(process, signal.SIGSTOP)
        subprocess.run(["sleep", "3.5"], check=True)  # what is to be shown is that time passes
        for process in (agent, daemon.pid):
            os.kill(process, signal.SIGCONT)
        (tmp_path / "go").write_text("go\n")
        assert daemon.stdout.read().split()[-1] == "exited"
