"""What a stop or a kill leaves: nothing alive, nothing lost, nothing counted, nothing twice.

A box ends with a daemon that is killed; what has none lives on until the next start ends it.
"""

import os
import signal

import pytest
from bed import COMMIT, HOLD, STUBBORN_CHILD, Bed, Witness, daemon, witnesses


def test_a_stop_ends_the_agents_and_their_task_runs_again_uncounted(bed: Bed) -> None:
    grace = 0.3
    bed.make(STUBBORN_CHILD + HOLD + COMMIT, config=f"[safety]\nshutdown_grace_seconds = {grace}")
    bed.drop("t")
    for attempt, number in enumerate((signal.SIGTERM, signal.SIGINT, None), start=1):
        bed.start()
        served, *run = daemon(bed), *witnesses(bed, "t", "child", "agent")
        assert [witness.alive() for witness in run] == [True, True]
        if number is None:
            assert bed.cli("stop", "--force") == "stopped\n"
        else:
            os.kill(served.pid, number)
        assert served.ends_within(grace + 5)
        assert [witness.alive() for witness in run] == [False, False]
        task = bed.task("t")
        assert (task["state"], task["attempts"]) == ("queued", attempt)
        assert task["runs"][-1]["verdict"] == "again_uncounted"
        assert "does not count" in task["reason"]
    bed.release("t")
    bed.start()
    task = bed.wait_for("t", "done", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 4)
    assert bed.landed_task_ids() == [task["id"]]


@pytest.mark.unboxed
def test_after_a_kill_nothing_of_the_agent_lives_on_and_its_work_lands_once(bed: Bed) -> None:
    bed.make(STUBBORN_CHILD + HOLD + COMMIT, config="[safety]\nshutdown_grace_seconds = 0.3")
    bed.start()
    bed.drop("t")
    run = witnesses(bed, "t", "child", "agent")
    bed.kill()
    assert [witness.alive() for witness in run] == [True, True], "nobody ended them meanwhile"
    assert bed.json("status")["daemon"]["running"] is False
    bed.start()
    assert [witness.alive() for witness in run] == [False, False]
    bed.release("t")
    task = bed.wait_for("t", "done", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 2)
    assert [r["verdict"] for r in task["runs"]] == ["again_uncounted", "to_integrator"]
    assert bed.landed_task_ids() == [task["id"]]


def test_a_box_ends_with_a_daemon_that_is_killed_and_its_work_lands_once(bed: Bed) -> None:
    bed.make(STUBBORN_CHILD + HOLD + COMMIT, config='sandbox = {mode = "bubblewrap"}')
    bed.start()
    bed.drop("t")
    run = witnesses(bed, "t", "child", "agent")
    bed.kill()
    assert all(witness.ends_within(bed.patience) for witness in run)
    bed.release("t")
    bed.start()
    task = bed.wait_for("t", "done", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 2)
    assert [r["verdict"] for r in task["runs"]] == ["again_uncounted", "to_integrator"]
    assert bed.landed_task_ids() == [task["id"]]


@pytest.mark.unboxed
def test_after_a_kill_the_test_of_a_candidate_ends_and_its_task_lands_once(bed: Bed) -> None:
    script = bed.root.parent / "test.sh"
    pid, go = bed.open / "pid", bed.open / "go"
    bed.make(COMMIT, config=f'[integration]\nrun_tests = ["sh {script}"]')
    script.write_text(f"trap '' TERM\necho $$ > {pid}\nwhile [ ! -e {go} ]; do sleep 0.02; done\n")
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "integrating")
    bed.wait(lambda: pid.exists() and pid.stat().st_size > 0, "the test runs")
    tested = Witness.told(int(pid.read_text()), str(bed.open.parent))
    pid.unlink()
    bed.kill()
    assert tested.alive()
    bed.start()
    assert not tested.alive()
    bed.wait(lambda: pid.exists() and pid.stat().st_size > 0, "it is tested again")
    assert bed.landed_task_ids() == []
    go.touch()
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert (task["outcome"], task["attempts"]) == ("merged", 1)
    assert bed.landed_task_ids() == [task["id"]]
