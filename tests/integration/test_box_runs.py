"""One run in a box against real processes: how it ends, what it reaches, what it may use."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from blockbuster import blockbuster_ctx

from alluvium_like.config.sandbox import Network
from alluvium_like.execution.adopt import become_subreaper
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest
from alluvium_like.lifecycle import Ending
from alluvium_like.sandbox.box import Access, Box, Limits, Mount, system_mounts
from alluvium_like.sandbox.bubblewrap import find_problem
from alluvium_like.sandbox.programs import own_mounts
from alluvium_like.sandbox.run import run_in_box

pytestmark = pytest.mark.skipif(
    bool(find_problem()), reason="needs bubblewrap: install the package bubblewrap"
)


@pytest.fixture(autouse=True)
def _daemon_like() -> Iterator[None]:
    become_subreaper()
    with blockbuster_ctx("alluvium_like"):
        yield


class Bench:
    """A folder that a box may write, and what a run in it comes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        self.tree.mkdir()
        self.stop = StopRequest()
        self.started: list[ProcessIdentity] = []
        self.refused: list[tuple[str, int]] = []
        mounts = (*system_mounts(), *own_mounts(), Mount.of(self.tree, Access.WRITE))
        self.box = Box(mounts, "loopback")
        self.spec = RunSpec(
            argv=[],
            cwd=self.tree,
            environment={"PATH": "/usr/bin:/bin", "HOME": str(self.tree)},
            marker=RunMarker(folder.name, RunKind.TEST, "box", os.getpid()),
            stdout_path=folder / "out",
            stderr_path=folder / "err",
            output_limit_bytes=1_000_000,
            timeout_seconds=60,
            grace_seconds=20,
        )

    async def run(self, script: str, box: Box | None = None, **changes: object) -> RunEnd:
        """Run a shell script in a box to its end."""
        told = {"argv": ["/bin/sh", "-c", script], **changes}
        return await run_in_box(
            replace(self.spec, **told),  # type: ignore[arg-type]
            box or self.box,
            on_started=self._note,
            stop=self.stop,
            on_refused=lambda host, port, _: self.refused.append((host, port)),
        )

    async def _note(self, identity: ProcessIdentity) -> None:
        self.started.append(identity)

    def network(self, network: Network, *hosts: str) -> Box:
        """Return the box with another network."""
        return replace(self.box, network=network, hosts=hosts)

    @property
    def out(self) -> str:
        return self.spec.stdout_path.read_text()

    @property
    def err(self) -> str:
        return self.spec.stderr_path.read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 0", 0, "exited with 0"),
        ("exit 3", 3, "exited with 3"),
        ("exit 255", 255, "exited with 255"),
        ("kill -9 $$", -9, "ended by SIGKILL"),
        ("kill -TERM $$", -15, "ended by SIGTERM"),
    ],
)
async def test_an_end_is_told_as_it_is_without_a_box(
    bench: Bench, script: str, code: int, reason: str
) -> None:
    end = await bench.run(script)
    assert (end.ending, end.exit_code, end.reason) == (Ending.EXITED, code, reason)
    assert len(bench.started) == 1


async def test_what_is_asked_to_end_in_a_box_has_its_time_to_clean_up(bench: Bench) -> None:
    script = """
        trap 'echo cleaned > cleaned; exit 0' TERM
        echo ready > ready
        while :; do sleep 0.02; done
    """
    async with anyio.create_task_group() as group:

        async def stop() -> None:
            while not await to_thread.run_sync((bench.tree / "ready").exists):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            bench.stop.stop(Ending.CANCELLED)

        group.start_soon(stop)
        end = await bench.run(script)
    assert end.ending is Ending.CANCELLED
    assert end.exit_code == 0
    assert (bench.tree / "cleaned").exists()


async def test_nothing_of_a_box_outlives_its_program(bench: Bench) -> None:
    end = await bench.run("setsid setsid sleep 1234 >/dev/null 2>&1 & echo $!")
    assert end.ending is Ending.EXITED
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if line == b"sleep\x001234\x00"]


async def test_a_program_that_is_not_there_was_not_started(bench: Bench) -> None:
    end = await bench.run("", argv=["no-such-program"])
    assert end.ending is Ending.NOT_STARTED
    assert end.reason == "cannot start no-such-program: No such file or directory"


async def test_without_the_box_that_was_asked_for_nothing_runs(bench: Bench) -> None:
    missing = Mount.of(bench.folder / "missing")
    end = await bench.run("touch ran", bench.box.with_mounts([missing]))
    assert end.ending is Ending.NOT_STARTED
    assert "its box could not be made: bwrap: Can't find source path" in end.reason
    assert not (bench.tree / "ran").exists()


async def test_a_box_holds_no_descriptor_and_no_variable_but_its_own(bench: Bench) -> None:
    os.environ["ALLUVIUM_TEST_SECRET"] = "secret"
    try:
        await bench.run("ls /proc/self/fd /proc/1/fd; env; tr '\\0' '\\n' < /proc/1/environ")
    finally:
        del os.environ["ALLUVIUM_TEST_SECRET"]
    listed = {line for line in bench.out.splitlines() if line.isdigit()}
    assert listed <= {"0", "1", "2", "3", "4", "5"}  # bwrap's own first process has its two
    assert "secret" not in bench.out


async def test_a_box_sees_its_tree_and_little_else(bench: Bench) -> None:
    (bench.folder / "beside").write_text("beside")
    await bench.run(f"cat {bench.folder}/beside; touch /usr/x /x {bench.folder}/x; ls /; id -u")
    assert not (bench.folder / "x").exists()
    assert "beside" not in bench.out
    assert bench.err.count("Read-only file system") == 2  # the private /tmp takes the third
    roots = bench.out.split()
    assert not {"run", "srv", "mnt", "media", "boot"} & set(roots)


async def test_the_kernel_of_the_machine_cannot_be_told_anything(bench: Bench) -> None:
    script = """
        cd /proc
        for file in $(find sys sysrq-trigger mtrr acpi irq bus fs -type f 2>/dev/null | head -3000)
        do [ -e "$file" ] && (: >> "$file") 2>/dev/null && echo "can be written: $file"; done
        touch sys/kernel/core_pattern 2>&1
        exit 0
    """
    await bench.run(script)
    assert "can be written" not in bench.out, bench.out
    assert "Read-only file system" in bench.out or "Permission denied" in bench.out


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from the machine")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


ASK = (
    "exec {python} -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read())' {url}"
)


def asking(url: str) -> str:
    return ASK.format(python="/usr/bin/python3", url=url)


needs_python = pytest.mark.skipif(
    not Path("/usr/bin/python3").exists(), reason="needs the python3 of the system"
)


@needs_python
async def test_a_listed_port_of_the_machine_is_reached_without_a_proxy(
    bench: Bench, port: int
) -> None:
    end = await bench.run(
        asking(f"http://127.0.0.1:{port}/"), bench.network("allow", f"127.0.0.1:{port}")
    )
    assert end.exit_code == 0, bench.err
    assert "hello from the machine" in bench.out
    assert not bench.refused


@needs_python
@pytest.mark.parametrize("network", ["none", "loopback", "allow"])
async def test_a_port_of_the_machine_that_is_not_listed_is_not_there(
    bench: Bench, port: int, network: Network
) -> None:
    end = await bench.run(asking(f"http://127.0.0.1:{port}/"), bench.network(network))
    assert end.exit_code == 1
    assert "hello" not in bench.out


@needs_python
async def test_the_full_network_is_that_of_the_machine(bench: Bench, port: int) -> None:
    await bench.run(asking(f"http://127.0.0.1:{port}/"), bench.network("full"))
    assert "hello from the machine" in bench.out


@needs_python
async def test_a_host_that_is_not_named_is_refused_and_told_once(bench: Bench) -> None:
    script = f"({asking('http://example.org/')}); ({asking('http://example.org/x')}); exit 0"
    await bench.run(script, bench.network("allow"))
    assert bench.refused == [("example.org", 80)]
    assert "403" in bench.err


async def test_a_port_that_cannot_be_opened_in_a_box_is_told(bench: Bench) -> None:
    end = await bench.run("sleep 1", bench.network("allow", "localhost:80"))
    assert end.exit_code == 0
    assert bench.refused == [("localhost", 80)]


async def test_a_box_without_a_network_has_no_loopback_either(bench: Bench) -> None:
    await bench.run(
        "cat /sys/class/net/lo/flags 2>/dev/null; cat /proc/net/if_inet6 /proc/net/route"
    )
    loopback = bench.out
    bench.spec.stdout_path.unlink()
    await bench.run("cat /proc/net/if_inet6", bench.network("none"))
    assert "lo" in loopback
    assert "lo" not in bench.out


async def test_an_abstract_socket_of_the_machine_is_not_reached(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0alluvium-{os.getpid()}")
        listener.listen()
        await bench.run("cat /proc/net/unix")
    assert f"alluvium-{os.getpid()}" not in bench.out


async def test_files_processes_and_time_are_limited(bench: Bench) -> None:
    limits = Limits(processes=20, cpu_seconds=1, file_bytes=4096, scratch_bytes=8192)
    box = replace(bench.box, limits=limits)
    await bench.run(
        "ulimit -a; head -c 10000 /dev/zero > large; head -c 20000 /dev/zero > /tmp/x", box
    )
    assert (bench.tree / "large").stat().st_size == 4096
    assert "time(seconds)        1\n" in bench.out
    assert "coredump(blocks)     0\n" in bench.out
    end = await bench.run("while :; do :; done", box)
    assert end.exit_code in (-9, -24)  # KILL, XCPU


async def test_a_run_ends_whose_files_take_up_more_than_they_may(bench: Bench) -> None:
    end = await bench.run(
        "head -c 30000000 /dev/zero > large; sync; while :; do sleep 0.05; done",
        disk_folders=(bench.tree,),
        disk_limit_bytes=10_000_000,
        grace_seconds=1,
    )
    assert end.ending is Ending.BUDGET
    assert end.reason == "its files take up more than 10_000_000 bytes"
