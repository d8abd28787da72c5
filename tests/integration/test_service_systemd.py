"""The generated unit under a real systemd, which is the first process of namespaces of its own."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from alluvium_like.surface.definition import Kind, Service, definition
from alluvium_like.surface.initialise import initialise
from alluvium_like.surface.service import service_of
from alluvium_like.workspace import Workspace

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = "/run/systemd/system"
BOOT_SECONDS = 20.0
FIRST_PROCESS = f"""
set -e
mount -t tmpfs tmpfs /run
mkdir -p {UNITS}
printf '[Unit]\\nDefaultDependencies=no\\n' > {UNITS}/bare.target
exec env -i container=test NOTIFY_SOCKET="$1" PATH="$PATH" \
    {SYSTEMD} --system --unit=bare.target --log-target=console --show-status=no
"""
NAMESPACES = ["--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
AGENT = """#!/bin/sh
trap '' TERM
exec 3>"$(dirname "$0")/agent.fifo"
echo started >&3
exec sleep 600
"""
GIT = """#!/bin/sh
here=$(dirname "$0")
if mv "$here/gate" "$here/taken" 2>/dev/null; then
    echo > "$here/reached"
    read -r _ < "$here/taken"
fi
exec {git} "$@"
"""


def missing() -> str:
    if sys.platform != "linux":
        return "systemd is a Linux program"
    if os.geteuid() != 0:
        return "only root can make the namespaces for a systemd of its own"
    absent = [tool for tool in ("unshare", "nsenter", SYSTEMD) if not shutil.which(tool)]
    return f"not installed: {absent[0]}" if absent else ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


class Systemd:
    """The systemd of these tests, driven from outside by its pid."""

    def __init__(self, pid: int) -> None:
        self._inside = ["nsenter", "-t", str(pid), *NAMESPACES]

    def run(self, *argv: str, stdin: str = "") -> str:
        done = subprocess.run(
            [*self._inside, *argv], input=stdin, text=True, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def open(self, *argv: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*self._inside, "systemctl", *argv])

    def systemctl(self, *argv: str) -> str:
        return self.run("systemctl", *argv)

    def fails(self, *argv: str) -> bool:
        with self.open(*argv) as command:
            return command.wait(60) != 0

    def show(self, unit: str, name: str) -> str:
        return self.systemctl("show", "--value", "-p", name, unit)

    def add(self, service: Service, extra: str = "") -> str:
        """Put the unit as it is generated into place, and what only this test needs beside it."""
        unit = f"{service.label}.service"
        self.run("mkdir", "-p", f"{UNITS}/{unit}.d")
        self.run("tee", f"{UNITS}/{unit}", stdin=definition(service, Kind.SYSTEMD))
        drop_in = f"[Unit]\nDefaultDependencies=no\n[Service]\n{extra}\n"
        self.run("tee", f"{UNITS}/{unit}.d/test.conf", stdin=drop_in)
        self.systemctl("daemon-reload")
        return unit


@contextmanager
def alone() -> Iterator[None]:
    """Wait for other runs of these tests: two systemds would share one tree of control groups."""
    with (Path(tempfile.gettempdir()) / "alluvium-like-systemd-test.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    folder = tmp_path_factory.mktemp("systemd")
    booted = folder / "booted"
    command = ["unshare", "--fork", "--kill-child", "--mount-proc", *NAMESPACES]
    with (
        alone(),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link,
        (folder / "out").open("w") as out,
    ):
        link.bind(str(booted))
        link.settimeout(BOOT_SECONDS)
        outer = subprocess.Popen(
            [*command, "bash", "-c", FIRST_PROCESS, "-", booted], stdout=out, stderr=out
        )
        try:
            while b"READY=1" not in link.recv(4096):
                pass
            first, *_ = psutil.Process(outer.pid).children()
            yield Systemd(first.pid)
        except TimeoutError:
            said = (folder / "out").read_text().strip().splitlines()[-1:]
            pytest.skip(f"no systemd starts in a namespace here: {said}")
        finally:
            for child in psutil.Process(outer.pid).children():
                child.kill()  # the first process of its namespace: all others end with it
            outer.wait(10)


class Place:
    """A workspace with an oddly named folder, an agent that will not end, and pipes to wait on."""

    def __init__(self, folder: Path, name: str) -> None:
        root = folder / 'it\'s "100%" \\x41 ü'
        initialise(root, repo=None, agent=None)
        self.workspace = Workspace.at(root)
        self.tools = folder / "tools"
        self.tools.mkdir()
        os.mkfifo(self.tools / "agent.fifo")
        self._script("agent", AGENT)
        self.workspace.config_file.write_text(self.configuration(0.5))
        found = service_of(self.workspace, name)
        self.service = replace(found, search_path=f"{self.tools}:{found.search_path}")

    def configuration(self, grace: float) -> str:
        return (
            f"[agent]\ncommand = [{json.dumps(str(self.tools / 'agent'))}]\n"
            f"[safety]\nshutdown_grace_seconds = {grace}\ninbox_settle_seconds = 0\n"
            f"[sandbox]\nwritable = [{json.dumps(str(self.tools / 'agent.fifo'))}]\n"
        )

    def hold_git(self) -> None:
        """Let the first git command of the daemon wait until it is let go."""
        self._script("git", GIT.format(git=shutil.which("git")))
        os.mkfifo(self.tools / "gate")
        os.mkfifo(self.tools / "reached")

    def extra(self) -> str:
        home = str(self.tools).replace("%", "%%")
        return f"Environment=HOME={home}\nStandardError=append:{home}/err"

    def words(self) -> str:
        """What the daemon said on stderr."""
        return (self.tools / "err").read_text()

    def drop_item(self) -> None:
        (self.workspace.inbox / "item.md").write_text("anything\n")

    def logged(self, event: str) -> int:
        lines = self.workspace.log_file.read_text().splitlines()
        return sum(json.loads(line)["event"] == event for line in lines)

    def _script(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(text)
        path.chmod(0o755)


def test_active_only_after_ready_and_stopped_within_the_time(
    systemd: Systemd, tmp_path: Path
) -> None:
    place = Place(tmp_path, "ready")
    place.hold_git()
    unit = systemd.add(place.service, place.extra())
    systemd.systemctl("start", "--no-block", unit)
    (place.tools / "reached").read_text()
    assert systemd.show(unit, "ActiveState") == "activating"
    assert not place.workspace.log_file.exists() or not place.logged("daemon_ready")
    (place.tools / "taken").write_text("go\n")
    systemd.systemctl("start", unit)
    assert systemd.show(unit, "ActiveState") == "active"
    assert place.logged("daemon_ready") == 1

    place.drop_item()
    with (place.tools / "agent.fifo").open() as agent:
        assert agent.readline() == "started\n"
        began = time.monotonic()
        systemd.systemctl("stop", unit)
        assert time.monotonic() - began < 0.5 + 5 + 3
        assert agent.read() == ""  # only the agent held the other end
    assert systemd.show(unit, "Result") == "success"
    assert systemd.show(unit, "ExecMainStatus") == "0"
    assert place.logged("daemon_stopped") == 1


def test_a_reload_takes_up_the_configuration_or_fails_and_harms_nothing(
    systemd: Systemd, tmp_path: Path
) -> None:
    place = Place(tmp_path, "reload")
    unit = systemd.add(place.service, place.extra())
    systemd.systemctl("start", unit)
    pid = systemd.show(unit, "MainPID")
    place.workspace.config_file.write_text(place.configuration(0.25))
    systemd.systemctl("reload", unit)
    assert place.logged("config_reloaded") == 1
    place.workspace.config_file.write_text("[safety]\nmax_workers = 0\n")
    assert systemd.fails("reload", unit)
    assert systemd.show(unit, "ActiveState") == "active"
    assert systemd.show(unit, "MainPID") == pid
    assert place.logged("config_reloaded") == 1
    systemd.systemctl("stop", unit)


@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP"])
def test_a_daemon_that_is_killed_or_hangs_is_started_again_and_its_agents_end(
    systemd: Systemd, tmp_path: Path, fault: str
) -> None:
    place = Place(tmp_path, fault.lower())
    patience = "WatchdogSec=3\n" if fault == "SIGSTOP" else ""
    unit = systemd.add(place.service, f"{patience}{place.extra()}")
    systemd.systemctl("start", unit)
    pid = systemd.show(unit, "MainPID")
    place.drop_item()
    with (place.tools / "agent.fifo").open() as agent:
        assert agent.readline() == "started\n"
        systemd.systemctl("kill", "--kill-whom=main", f"--signal={fault}", unit)
        assert agent.read() == ""
        assert systemd.show(unit, "NRestarts") == "0"  # so it ended with its daemon, not later
    with (place.tools / "agent.fifo").open() as agent:
        assert agent.readline() == "started\n"
    assert systemd.show(unit, "NRestarts") == "1"
    assert systemd.show(unit, "MainPID") != pid
    assert ("Fatal Python error: Aborted" in place.words()) == (fault == "SIGSTOP")
    systemd.systemctl("stop", unit)


def test_a_stop_by_command_is_a_wish_and_nothing_is_started_again(
    systemd: Systemd, tmp_path: Path
) -> None:
    place = Place(tmp_path, "wish")
    os.mkfifo(place.tools / "ended")
    tell = f"ExecStopPost=/bin/sh -c 'echo $$SERVICE_RESULT > {place.tools}/ended'"
    unit = systemd.add(place.service, f"{tell}\n{place.extra()}")
    systemd.systemctl("start", unit)
    systemd.run(*place.service.command("stop"))
    assert (place.tools / "ended").read_text() == "success\n"  # on which 'on-failure' does nothing
    assert systemd.show(unit, "Restart") == "on-failure"


ODD = [
    "space at the end ",
    " at the start",
    "100%h %% %i",
    "\"quoted\" 'so'",
    "back\\x41\\",
    "$HOME ${HOME} $$",
    "a ; b # c",
    "ünï 日本 \u00a0\u2028",
]


def test_every_path_reaches_the_program_as_it_is(systemd: Systemd, tmp_path: Path) -> None:
    script, seen = tmp_path / "script", tmp_path / "seen"
    script.write_text(
        "import json, os, sys\n"
        f"json.dump([sys.argv, os.environ['PATH']], open({str(seen)!r}, 'w'))\n"
    )
    for odd in ODD:
        service = Service("odd", f"/w/{odd}", (sys.executable, str(script)), f"/p/{odd}:/bin", 1)
        unit = systemd.add(service, "Restart=no\nStartLimitIntervalSec=0\nType=oneshot")
        systemd.systemctl("start", unit)
        assert json.loads(seen.read_text()) == [
            [str(script), "-C", f"/w/{odd}", "serve"],
            f"/p/{odd}:/bin",
        ]
        seen.unlink()
