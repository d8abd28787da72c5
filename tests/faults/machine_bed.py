"""What the tests of a machine in trouble share."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bed import Bed

SOURCE = Path(__file__).with_name("fsync_fails.c")


def troubles(bed: Bed) -> dict[str, str]:
    """Return what the machine lacks, as `status` shows it."""
    status = bed.json("status")
    assert status["daemon"]["state"] == ("degraded" if status["degraded"] else "running")
    return {told["name"]: told["reason"] for told in status["degraded"]}


def wait_until_told(bed: Bed, name: str, part: str = "") -> None:
    """Wait until `status` says that the daemon is degraded for want of `name`."""
    bed.wait(lambda: part in troubles(bed).get(name, "-"), f"degraded: {name}")
    assert bed.cli("status").startswith("daemon      degraded (pid ")
    assert f"  {name} " in bed.cli("status")


def wait_until_well(bed: Bed) -> None:
    bed.wait(lambda: not troubles(bed), "well again")
    assert bed.cli("status").startswith("daemon      running (pid ")


def is_merged_once(bed: Bed, *names: str) -> None:
    """Wait until these are merged, by one attempt that counts each, and are all that is."""
    for name in names:
        task = bed.wait_for(name, "done", "failed", "needs_human")
        if task["outcome"] != "merged":
            pytest.fail(f"{task} {bed.explain()}")
        counted = [run["verdict"] for run in task["runs"] if run["verdict"] != "again_uncounted"]
        assert counted == ["to_integrator"], task["runs"]
    assert len(bed.landed_task_ids()) == len(names)
    assert len(bed.json("list")) == len(names), "nothing was claimed twice"
    wait_until_well(bed)
    status = bed.json("status")
    assert (status["inbox"], status["quarantine"]) == (0, 0)


class Syncs:
    """Makes the syncs of a daemon fail, from its next start on, and knows them afterwards."""

    def __init__(self, bed: Bed) -> None:
        if shutil.which("gcc") is None:
            pytest.skip("no compiler for the library that makes syncs fail")
        home = bed.root.parent
        library = home / "fsync_fails.so"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        self._control, self._log = home / "fsync_fails", home / "fsync_log"
        bed.environment |= {
            "LD_PRELOAD": str(library),
            "FSYNC_FAILS": str(self._control),
            "FSYNC_LOG": str(self._log),
        }

    @contextmanager
    def failing(self, part: str) -> Iterator[None]:
        """Let the sync of everything fail whose path holds `part`."""
        whole = self._control.with_name("control")
        whole.write_text(part)
        whole.rename(self._control)
        yield
        self._control.unlink()

    def seen(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


def first_free_descriptor(pid: int) -> int:
    """Return the limit that leaves a process what it has, and not one more."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in itertools.count() if number not in taken)
