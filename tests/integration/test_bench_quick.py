"""The bench's own test: tiny numbers through every measure that needs no network."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alluvium_like.sandbox.bubblewrap import find_problem

RUN = Path(__file__).parents[2] / "contrib" / "bench" / "run.py"
PATIENCE_SECONDS = 100.0


def test_every_measure_gives_its_figures(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with _bench("--folder", tmp_path, "--results", results) as bench:
        printed, told = bench.communicate(timeout=PATIENCE_SECONDS)

    assert bench.returncode == 0, told
    found = json.loads(printed)
    assert set(found["measures"]) == {"first-word", "batch", "big-tree", "queue"}
    assert all(bar["figure"] is not None for bar in found["bars"]), told
    batch = found["measures"]["batch"]["figures"]
    assert batch["ours"]["landed"] == batch["git"]["landed"] == [3]
    queue = found["measures"]["queue"]["figures"]
    for parallel in (1, 2):
        assert queue[f"green_{parallel}"]["landed"] == 3
        assert 1 <= queue[f"green_{parallel}"]["runs"] <= 3
        bad = queue[f"bad_{parallel}"]
        assert (bad["landed"], bad["sent_back"], bad["wrongly_judged"]) == (2, 1, 0)
    for name, measure in found["measures"].items():
        assert measure["machine"]["cores"] >= 1
        assert json.loads((results / f"{name}.json").read_text()) == measure
    assert "plain git" in (results / "table.txt").read_text()
    assert list(tmp_path.iterdir()) == [results], "the scratch folder is gone"


@pytest.mark.skipif(bool(find_problem()), reason="needs bubblewrap: install the package bubblewrap")
def test_what_the_box_costs_is_measured_with_and_without_it(tmp_path: Path) -> None:
    with _bench("--folder", tmp_path, "--only", "box") as bench:
        printed, told = bench.communicate(timeout=PATIENCE_SECONDS)
    assert bench.returncode == 0, told
    (bar,) = json.loads(printed)["bars"]
    assert bar["place"] == "box.added_ms"
    assert bar["figure"] is not None


def test_an_interrupt_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    with _bench("--folder", tmp_path, "--only", "first-word") as bench:
        daemon = os.pidfd_open(_pid_of_the_daemon(tmp_path))
        os.killpg(bench.pid, signal.SIGINT)
        _, told = bench.communicate(timeout=PATIENCE_SECONDS)

    assert "KeyboardInterrupt" in told
    assert select.select([daemon], [], [], 0)[0], "the daemon has ended"
    os.close(daemon)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def _bench(*options: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run the bench in a process group of its own; it is asked to end where it has not."""
    argv = [sys.executable, RUN, "--quick", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as run:
        try:
            yield run
        finally:
            if run.poll() is None:
                run.terminate()


def _pid_of_the_daemon(folder: Path) -> int:
    """Wait until a daemon of the bench has written its number."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for path in folder.glob("*/first-word/*/*/workspace/.alluvium/daemon.pid"):
            if text := path.read_text():
                return int(text)
        time.sleep(0.02)
    raise AssertionError("no daemon came up")
