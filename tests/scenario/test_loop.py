"""Nothing blocks the event loop: the whole daemon works through tasks with every block an error."""

import subprocess
import sys
from pathlib import Path

from bed import Bed

RUN = """
import os
import sys
from pathlib import Path
from blockbuster import BlockBuster
from alluvium_like import supervisor
from alluvium_like.workspace import Workspace

work = supervisor.Supervisor.run

async def watched(self):
    watch = BlockBuster()
    for function in watch.functions.values():  # once, before the daemon is ready
        function.can_block_in("anyio/_core/_sockets.py", "create_unix_listener")
        function.can_block_in("anyio/_core/_sockets.py", "setup_unix_local_socket")
    watch.activate()  # for good: taking it back while threads run may crash the interpreter
    await work(self)

supervisor.Supervisor.run = watched
supervisor.run_once(Workspace.at(Path(sys.argv[1])), ignore_settle=True)
os._exit(0)  # the interpreter may crash on its way out while the watch is on
"""


def test_no_step_of_a_task_blocks_the_loop(bed: Bed) -> None:
    bed.make(
        'cp "$ALLUVIUM_TASK_DIR"/input/* shared.txt; sleep 0.1',
        config="[integration]\nmax_revision_rounds = 1\nrun_tests = ['test -e shared.txt']",
    )
    bed.commit({"shared.txt": "start\n"})
    for name in ("one", "two"):
        bed.drop(name, f"{name}\n")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(bed.root)],
        capture_output=True,
        text=True,
        env=bed.environment,
        timeout=60,
        check=False,
    )
    log = Path(bed.root, "logs", "daemon.jsonl").read_text()
    assert "Blocking" not in done.stderr + log, done.stderr[-3000:] + log[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]
    assert {task["state"] for task in bed.json("list")} <= {"done", "needs_human"}
    assert bed.landed_task_ids()
