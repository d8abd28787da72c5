"""Two that want the same: exactly one gets it, and the other is told."""

import json
import os
import signal
import socket
import subprocess

from bed import COMMIT, PATIENCE_SECONDS, PROGRAM, Bed

from alluvium_like.surface.protocol import reachable
from alluvium_like.workspace import Workspace

# Each at the landing of that number; by the last the candidate is not yet on its way.
MOMENTS = (
    "store.landing_prepared@1:before:stop",
    "store.landing_prepared@2:after:stop",
    "landing.ref@3:before:stop",
    "landing.ref@4:after:stop",
    "store.landed@5:before:stop",
    "store.landed@6:after:stop",
    "store.train_joined@7:before:stop",
)


def test_of_cancel_and_landing_one_wins_at_every_moment(bed: Bed) -> None:
    bed.make(COMMIT)
    bed.environment["ALLUVIUM_FAILPOINTS"] = ";".join(MOMENTS)
    won = []
    with bed.spawn("serve") as served:
        for number, moment in enumerate(MOMENTS):
            name = f"item{number}"
            bed.drop(name)
            os.waitid(os.P_PID, served.pid, os.WSTOPPED)
            with socket.socket(socket.AF_UNIX) as link:
                with reachable(Workspace(bed.root).socket) as path:
                    link.settimeout(PATIENCE_SECONDS)
                    link.connect(path)
                params = {"task_id": bed.folder(name).name}
                link.sendall(json.dumps({"method": "cancel", "params": params}).encode() + b"\n")
                os.kill(served.pid, signal.SIGCONT)
                reply = json.loads(link.makefile("rb").readline())
            state = bed.wait_for(name, "done", "cancelled")["state"]
            bed.wait_until_idle()
            assert bed.task(name)["state"] == state, moment
            landed = params["task_id"] in bed.landed_task_ids()
            assert (state == "cancelled", landed) == ("result" in reply, "error" in reply), moment
            won.append(state)
        bed.stop()
    assert set(won) == {"done", "cancelled"}, "both were tried"


def test_what_a_crash_left_half_landed_is_not_cancelled_without_a_daemon(bed: Bed) -> None:
    bed.make(COMMIT)
    bed.drop("item")
    for moment in ("before", "after"):  # the second daemon goes on with the same landing
        bed.environment["ALLUVIUM_FAILPOINTS"] = f"landing.ref:{moment}:kill"
        with bed.spawn("serve") as served:
            assert served.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        assert "is landing at this moment" in bed.cli("cancel", "item", code=1)
    del bed.environment["ALLUVIUM_FAILPOINTS"]
    bed.start()
    assert bed.wait_for("item", "done")["outcome"] == "merged"
    assert bed.landed_task_ids() == [bed.folder("item").name]


def test_of_two_daemons_that_start_together_the_second_says_so_and_exits_with_1(bed: Bed) -> None:
    bed.make()
    argv = [*PROGRAM, "-C", str(bed.root), "serve"]
    both = [
        subprocess.Popen(argv, env=bed.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    log = bed.root / "logs" / "daemon.jsonl"
    bed.wait(lambda: log.exists() and "daemon_ready" in log.read_text(), "ready")
    bed.drop("item")
    bed.wait_for("item", "done")
    (first,) = [one for one in both if one.pid == bed.json("status")["daemon"]["pid"]]
    (second,) = [one for one in both if one is not first]
    _, told = second.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 1
    (line,) = told.splitlines()
    assert str(first.pid) in line
    bed.stop()
    assert first.wait(PATIENCE_SECONDS) == 0
    assert first.stderr is not None
    first.stderr.close()
