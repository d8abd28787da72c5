"""No descriptors, no processes, an inbox that may not be written: told, and gone on with later."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bed import COMMIT, HOLD, PROGRAM, Bed, daemon
from machine_bed import first_free_descriptor, is_merged_once, wait_until_told

from alluvium_like.surface.protocol import reachable

pytestmark = pytest.mark.skipif(
    shutil.which("prlimit") is None, reason="limits are changed from outside by Linux's prlimit"
)
USER = 61_234  # nobody's, so that nothing else counts against its limits
CAPABILITIES = ("--inh-caps", "--ambient-caps", "--bounding-set")
DROPPED = (f"{kind}=-all,+dac_override" for kind in CAPABILITIES)
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *DROPPED)
QUESTION = 'echo "what now?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"\n'


@contextmanager
def limited(pid: int, what: str, most: int, *by: str) -> Iterator[None]:
    """Lower one limit of a running process, and raise it again."""
    command = [*by, "prlimit", f"--pid={pid}"]
    (before,) = subprocess.check_output(
        [*command, f"--{what}", "--output=SOFT", "--noheadings"], text=True
    ).split()
    subprocess.run([*command, f"--{what}={most}:"], check=True)
    yield
    subprocess.run([*command, f"--{what}={before}:"], check=True)


@pytest.mark.unboxed  # counted are the daemon's own descriptors, of which a box takes some
def test_without_descriptors_nothing_is_lost_or_misread_and_then_it_goes_on(bed: Bed) -> None:
    """A question that cannot be read at the end of the attempt has been asked all the same."""
    bed.make(HOLD + COMMIT + QUESTION)
    pid = bed.start()
    served = daemon(bed)
    bed.drop("asks")
    bed.wait_for("asks", "running")
    bed.wait_for_file(bed.folder("asks") / ".agent" / "outputs" / "agent")
    go = bed.folder("asks") / ".agent" / "go"
    with (
        socket.socket(socket.AF_UNIX) as link,
        reachable(bed.root / ".alluvium/control.sock") as at,
    ):
        link.settimeout(60)
        with limited(pid, "nofile", first_free_descriptor(pid)):
            link.connect(at)
            link.sendall(b'{"method": "ping"}\n')
            go.touch()
            bed.drop("t")
            wait_until_told(bed, "processes", "Too many open files")
            assert served.alive()
            bed.set_agent(COMMIT)
        assert b'"result"' in link.recv(1000), "the caller had to wait, no more"
    is_held = bed.wait_for("asks", "needs_human", "done", "failed")
    assert (is_held["state"], is_held["attempts"]) == ("needs_human", 1)
    assert "what now?" in is_held["checkpoints"][0]["question"]
    bed.cli("cancel", is_held["id"])
    bed.wait_for("t", "done")
    assert bed.landed_task_ids() == [bed.task("t")["id"]]


def test_what_the_system_refuses_is_asked_for_again_and_counts_against_nobody(bed: Bed) -> None:
    """A sync of the inbox, the start of an agent, and the git that lands fail once each."""
    steps = {"claim.sync_inbox": "EIO", "attempt.spawn": "EAGAIN", "git.merge": "EAGAIN"}
    bed.environment["ALLUVIUM_FAILPOINTS"] = ";".join(
        f"{name}:before:{code}" for name, code in steps.items()
    )
    bed.make(COMMIT)
    bed.start()
    bed.drop("t")
    is_merged_once(bed, "t")
    log = (bed.root / "logs" / "daemon.jsonl").read_text()
    for name in steps:
        assert f"injected at {name}" in log
    assert bed.task("t")["attempts"] == 2


@pytest.fixture
def users_bed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """A workspace of another user's, who may read what root's interpreter needs and no more."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user's processes can only be limited by root, with setpriv")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where that user may go
        bed = Bed(Path(folder) / "ws").make(HOLD + COMMIT)
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)
        monkeypatch.setattr("bed.PROGRAM", (*AS_USER, *PROGRAM))
        trusted = {"GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        bed.environment |= {"GIT_CONFIG_COUNT": "1", **trusted}  # for root, who looks on
        yield bed
        bed.stop()


def test_without_processes_and_threads_it_waits_and_then_goes_on(users_bed: Bed) -> None:
    bed = users_bed
    pid = bed.start()
    bed.drop("t")
    bed.wait_for("t", "running")
    bed.wait_for_file(bed.folder("t") / ".agent" / "outputs" / "agent")
    with limited(pid, "nproc", 1, *AS_USER):
        bed.release("t")
        bed.drop("later")
        wait_until_told(bed, "processes")
        bed.set_agent(COMMIT)
    is_merged_once(bed, "t", "later")


@pytest.mark.parametrize(
    ("name", "problem"),
    [("inbox", "items cannot be taken out of it"), ("tasks", "items cannot be moved into it")],
)
def test_an_inbox_that_is_mounted_read_only_keeps_its_items_until_it_is_not(
    bed: Bed, name: str, problem: str
) -> None:
    bed.make(COMMIT)
    bed.drop("t")
    folder = str(bed.root / name)
    for mount in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
        if subprocess.run(["mount", *mount], capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
    try:
        bed.start()
        wait_until_told(bed, "inbox", f"{problem}: {folder}; let the daemon read and write this")
        assert (bed.inbox / "t").read_text() == "please"
        assert bed.json("status")["quarantine"] == 0
    finally:
        subprocess.run(["umount", folder], check=True)
    is_merged_once(bed, "t")
