"""Clocks that are set and machines that sleep: nothing ends early or late, nothing young goes."""

import os
import signal
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from bed import HOLD, PROGRAM, STUBBORN_CHILD, Bed, daemon, witnesses
from clocks import Clocks, needs_shim, shim

DAY = timedelta(days=1)
HOURS = timedelta(hours=8)
PATIENT = """
agent = {retries = 1, retry_delay_seconds = 3, timeout_seconds = 3600}
safety = {inbox_settle_seconds = 4, shutdown_grace_seconds = 1, max_workers = 3}
"""
WORK = f"""
case $ALLUVIUM_TASK_ID in
*-hung-*) {STUBBORN_CHILD} {HOLD} ;;
*-long-*) {HOLD} ;;
*-flaky-*)
    tried="$ALLUVIUM_AGENT_DIR/outputs/tried"
    if [ ! -e "$tried" ]; then touch "$tried"; exit 1; fi ;;
esac
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def clocks(bed: Bed, library: Path) -> Clocks:
    return Clocks(bed, library)


def conditions(bed: Bed) -> str:
    return " ".join(found["reason"] for found in bed.json("status")["conditions"])


def go_on(bed: Bed, name: str) -> None:
    bed.release(name)


@needs_shim
def test_a_clock_that_is_set_makes_no_deadline_earlier_or_later_and_no_pause_longer(
    bed: Bed, clocks: Clocks
) -> None:
    bed.make(WORK, config=PATIENT)
    bed.start()
    bed.drop("long")
    (agent,) = witnesses(bed, "long", "agent")
    for number, by in enumerate((DAY, -DAY, -timedelta(minutes=30))):
        (bed.inbox / f"settling-{number}").write_text("please")
        bed.drop(f"flaky-{number}")  # taken at once; so the other has been looked at by then
        bed.wait_for_reason(f"flaky-{number}", "exited with 1")
        clocks.set_time_of_day(by)
        assert bed.wait_for(f"flaky-{number}", "done")["attempts"] == 2
        bed.wait_for(f"settling-{number}", "done")

    bed.configure(PATIENT.replace("3600", "3"))
    bed.cli("reload")
    bed.drop("hung")
    hung, child = witnesses(bed, "hung", "agent", "child")
    clocks.set_time_of_day(-DAY)
    bed.wait_for_reason("hung", "deadline")
    assert hung.ends_within(0)
    assert child.ends_within(0)

    assert agent.alive()
    go_on(bed, "long")
    assert bed.wait_for("long", "done")["attempts"] == 1


@needs_shim
@pytest.mark.parametrize("how", [Clocks.suspend, Clocks.freeze], ids=["asleep", "frozen"])
def test_hours_in_which_nothing_ran_are_nobodys_deadline(
    bed: Bed, clocks: Clocks, how: Callable[[Clocks, timedelta], None]
) -> None:
    bed.make(HOLD, config="agent = {timeout_seconds = 3600}")
    bed.start()
    bed.drop("long")
    (agent,) = witnesses(bed, "long", "agent")
    pid = daemon(bed).pid
    os.kill(pid, signal.SIGSTOP)
    how(clocks, HOURS)
    os.kill(pid, signal.SIGCONT)
    bed.configure("safety = {max_workers = 3}")
    bed.cli("reload")
    bed.drop("next")
    (other,) = witnesses(bed, "next", "agent")
    assert agent.alive()
    for name in ("long", "next"):
        go_on(bed, name)
        assert bed.wait_for(name, "done")["attempts"] == 1
    assert not other.alive()


@needs_shim
def test_a_clock_a_year_ahead_makes_nothing_old_until_it_is_believed(
    bed: Bed, clocks: Clocks
) -> None:
    bed.make(config="retention = {done_days = 30}")
    bed.start()
    bed.drop("young")
    bed.wait_for("young", "done")
    folder = bed.folder("young")
    log = bed.root / "logs" / "daemon.jsonl"
    bed.stop()

    clocks.set_time_of_day(365 * DAY)
    bed.start()
    bed.wait(lambda: "set 365.0 days ahead: nothing is removed" in conditions(bed), "told")
    clocks.set_time_of_day(-365 * DAY)
    bed.cli("reload")
    bed.wait(lambda: "set 365.0 days back" in conditions(bed), "told")
    assert folder.exists()

    clocks.suspend(DAY + HOURS)
    bed.cli("reload")
    bed.wait(lambda: not conditions(bed), "believed")
    assert folder.exists()
    clocks.freeze(31 * DAY)
    bed.cli("reload")
    bed.wait(lambda: not folder.exists(), "old by now")
    assert '"event": "removed"' in log.read_text()


# -- identities ------------------------------------------------------------------------------------

BARE = """
echo $$ > "$ALLUVIUM_AGENT_DIR/outputs/agent"
exec env -i sh -c 'while :; do sleep 0.05; done'
"""


@pytest.mark.unboxed
def test_survivors_are_known_again_in_another_time_namespace(bed: Bed) -> None:
    """There the kernel shows other start times; the agent has thrown its mark away."""
    shifted = ("unshare", "--time", "--boottime", "100000", "--monotonic", "100000", "--fork")
    if subprocess.run([*shifted, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no time namespace to be had here")
    bed.make(BARE)
    bed.start()
    bed.drop("task")
    (agent,) = witnesses(bed, "task", "agent")
    bed.kill()
    assert agent.alive()
    bed.set_agent("exit 0\n")
    argv = [*shifted, *PROGRAM, "-C", str(bed.root), "run-once"]
    subprocess.run(argv, env=bed.environment, check=True, timeout=60)
    assert agent.ends_within(0)
    assert bed.task("task")["state"] == "done"


STRANGER = """
import os, signal, subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bed import HOLD, Bed, witnesses

bed = Bed(Path(sys.argv[2]) / "ws", unboxed=True).make(HOLD)
bed.start()
bed.drop("task")
agent, = witnesses(bed, "task", "agent")
bed.kill()
os.kill(agent.pid, signal.SIGKILL)
while True:  # a number is free when nobody is in its session any more; orphans come to us
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        break
stranger = None
for _ in range(10):  # somebody else may start a process in between
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(agent.pid - 1))
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    if stranger.pid == agent.pid:
        break
    stranger.kill()
    stranger.wait()
assert stranger and stranger.pid == agent.pid, "the number was not to be had again"
bed.set_agent("exit 0")
bed.start()
bed.wait_for("task", "done")
assert stranger.poll() is None, "a stranger was ended"
stranger.kill()
bed.stop()
print("spared")
"""


def test_a_stranger_with_the_number_of_a_dead_agent_is_not_signalled(tmp_path: Path) -> None:
    own = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process namespace to be had here")
    done = subprocess.run(
        [*own, PROGRAM[0], "-c", STRANGER, str(Path(__file__).parents[1] / "scenario"), tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.stdout == "spared\n", done.stderr
