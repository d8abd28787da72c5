"""What the daemon opened is taken away under it: it writes nothing elsewhere, says so, waits."""

import json
import logging
import os
import shutil
import signal
from contextlib import closing
from pathlib import Path

import pytest
from bed import COMMIT, HOLD, PATIENCE_SECONDS, Bed, daemon, witnesses
from machine_bed import is_merged_once, wait_until_told

from alluvium_like.errors import DaemonRunning, PlaceLost
from alluvium_like.lock import is_locked, lock_holder, workspace_lock
from alluvium_like.log import _LogFile
from alluvium_like.place import Place
from alluvium_like.workspace import Workspace

NOBODY = 65534
GATE = """
echo $$ > "$ALLUVIUM_AGENT_DIR/outputs/agent"
while [ ! -e OPEN/go ]; do sleep 0.02; done
"""
OWN = [
    *(".alluvium", ".alluvium/alluvium.db", ".alluvium/daemon.lock", ".alluvium/integration.git"),
    "tasks",
]


@pytest.mark.parametrize("name", OWN)
def test_what_is_moved_away_is_told_and_work_waits_until_it_is_back(bed: Bed, name: str) -> None:
    bed.make(COMMIT)
    served = bed.start()
    place, away = bed.root / name, bed.root.parent / "away"
    place.rename(away)
    os.kill(served, signal.SIGHUP)  # as the slow look would, a minute later
    wait_until_told(bed, "folders", str(place))
    bed.drop("t")
    refused = bed.cli("start", code=1)
    assert f"a daemon already runs in {bed.root} (pid {served})" in refused
    assert not place.exists(), "nothing is made in its place"
    assert bed.json("status")["inbox"] == 1
    away.rename(place)
    is_merged_once(bed, "t")
    assert bed.json("verify")["ok"]


def test_the_workspace_stays_locked_when_the_file_of_the_lock_is_taken_away(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.make_folders()
    with workspace_lock(space):
        space.pid_file.write_text(f"{os.getpid()}\n")
        space.lock_file.unlink()
        assert is_locked(space)
        assert lock_holder(space) == os.getpid()
        with pytest.raises(DaemonRunning, match=f"pid {os.getpid()}"), workspace_lock(space):
            pass
        assert not space.lock_file.exists()
    assert not is_locked(space)


def test_another_folder_in_the_place_of_its_own_is_left_alone(bed: Bed) -> None:
    """Neither a second daemon nor the one that ends writes or removes anything there."""
    bed.make(COMMIT)
    bed.start()
    served = daemon(bed)
    state, away = bed.root / ".alluvium", bed.root.parent / "away"
    state.rename(away)
    state.mkdir()
    names = ["alluvium.db", "control.sock", "daemon.pid"]
    for name in names:
        (state / name).touch()
    bed.drop("t")
    wait_until_told(bed, "folders", str(state))
    status = bed.json("status")
    assert (status["daemon"]["pid"], status["inbox"]) == (served.pid, 1)
    for command in ("serve", "pause", "stop"):
        assert bed.cli(command, code=1).count("\n") == 1
    assert bed.cli("stop", "--force") == "stopped\n"
    assert served.ends_within(PATIENCE_SECONDS)
    assert sorted(os.listdir(state)) == names
    shutil.rmtree(state)
    away.rename(state)
    bed.start()
    is_merged_once(bed, "t")


def test_no_new_store_is_made_where_one_was_lost(bed: Bed) -> None:
    bed.make(COMMIT)
    bed.drop("t")
    bed.cli("run-once")
    store, away = bed.root / ".alluvium" / "alluvium.db", bed.root.parent / "away"
    for lost in (store.unlink, store.touch):
        if store.exists():
            store.rename(away)
        lost(*([True] if lost == store.unlink else []))
        for command in ("start", "run-once", "pause", "gc", "status"):
            said = bed.cli(command, code=1)
            assert said.startswith(f"alluvium-like: {store}: is not there, but {bed.root}/tasks")
            assert "put the store back, or 'alluvium-like restore' a backup" in said
            assert said.count("\n") == 1
        assert not store.exists() or not store.stat().st_size
    away.rename(store)
    bed.start()
    is_merged_once(bed, "t")


def test_a_socket_that_was_removed_is_made_again_and_until_then_the_daemon_stops(bed: Bed) -> None:
    bed.make()
    served = bed.start()
    socket = bed.root / ".alluvium" / "control.sock"
    socket.unlink()
    said = bed.cli("reload", code=1)
    assert "somebody took its socket away and it makes it again within a minute" in said
    os.kill(served, signal.SIGHUP)  # as the slow look would
    bed.wait(socket.exists, "made again")
    assert bed.cli("reload") == "nothing changed\n"
    socket.unlink()
    assert bed.cli("stop") == "stopped\n"
    last = (bed.root / "logs" / "daemon.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["event"] == "daemon_stopped"


def test_a_daemon_that_hangs_is_told_and_ended_by_force(bed: Bed) -> None:
    bed.make()
    bed.start()
    served = daemon(bed)
    os.kill(served.pid, signal.SIGSTOP)
    status = bed.json("status")["daemon"]
    assert (status["running"], status["state"], status["pid"]) == (True, "hung", served.pid)
    said = bed.cli("status")
    assert said.startswith(f"daemon      hung (pid {served.pid})\n  it does not answer; ")
    assert "'alluvium-like stop --force' ends one that hangs" in bed.cli("stop", code=1)
    assert served.alive()
    assert bed.cli("stop", "--force").startswith(f"killed (pid {served.pid})")
    assert served.ends_within(PATIENCE_SECONDS)
    assert bed.json("status")["daemon"]["state"] == "stopped"


@pytest.mark.unboxed  # in a box it goes on with the objects that it was given
@pytest.mark.parametrize("name", ["integration.git", "integration.git/objects"])
def test_an_agent_that_fails_for_want_of_the_daemons_repository_is_not_blamed(
    bed: Bed, name: str
) -> None:
    bed.make(HOLD + COMMIT, config='[integration]\nrun_tests = ["true"]')
    bed.start()
    bed.drop("t")
    witnesses(bed, "t", "agent")
    place, away = bed.root / ".alluvium" / name, bed.root.parent / "away"
    place.rename(away)
    bed.release("t")
    wait_until_told(bed, "folders", str(place))
    bed.wait(lambda: bed.task("t")["state"] == "queued", "not blamed")
    away.rename(place)
    is_merged_once(bed, "t")


MOMENTS = [
    "store.attempt_begun@1:after",  # nothing is prepared yet
    "git.unpack-objects@1:before",  # work is fetched
    "store.attempt_ended@1:after",  # a candidate is made
    "test.spawn@1:before",  # it is tested
    "git.fetch@1:before",  # it lands
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_whatever_needs_the_daemons_repository_waits_until_it_is_back(
    bed: Bed, moment: str
) -> None:
    """The daemon is stopped at that moment, so that it finds it gone there."""
    bed.make(COMMIT, config='[integration]\nrun_tests = ["git cat-file -e HEAD~"]')
    bed.environment["ALLUVIUM_FAILPOINTS"] = f"{moment}:stop"
    served = bed.start()
    stat = Path(f"/proc/{served}/stat")
    bed.drop("t")
    bed.wait(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), "stopped")
    place, away = bed.root / ".alluvium" / "integration.git", bed.root.parent / "away"
    place.rename(away)
    os.kill(served, signal.SIGCONT)
    wait_until_told(bed, "folders", str(place))
    away.rename(place)
    is_merged_once(bed, "t")
    assert bed.json("show", bed.folder("t").name)["checkpoints"] == []


@pytest.mark.parametrize("end", [COMMIT, "exit 3"], ids=["well", "failed"])
def test_a_task_whose_folder_was_moved_away_while_its_agent_ran_is_put_to_a_person(
    bed: Bed, end: str
) -> None:
    """What the agent said there cannot be read: it may have asked a question, or have failed."""
    bed.make(f"""
        echo "May I?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
        {GATE.replace("OPEN", str(bed.open))}
        {end}""")
    bed.start()
    bed.drop("t")
    witnesses(bed, "t", "agent")
    folder, away = bed.folder("t"), bed.root.parent / "away"
    folder.rename(away)
    (bed.open / "go").touch()
    task = bed.wait_for("t", "needs_human", "done", "failed")
    assert task["state"] == "needs_human"
    assert f"tasks/{folder.name} was moved away, removed or replaced" in task["reason"]
    assert bed.landed_task_ids() == []
    bed.cli("stop")
    assert not folder.exists(), "nothing is in the way of who puts it back"
    assert "its folder was removed" in bed.cli("retry", task["id"], code=1)
    away.rename(folder)
    assert '"exception"' not in (bed.root / "logs" / "daemon.jsonl").read_text()
    bed.set_agent(COMMIT)
    bed.start()
    bed.cli("retry", task["id"])
    assert bed.wait_for("t", "done", "failed", "needs_human")["outcome"] == "merged"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_what_may_not_be_written_any_more_counts_as_taken_away(tmp_path: Path) -> None:
    place = Place.of(tmp_path)
    tmp_path.chmod(0o555)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(tmp_path)
            os.setuid(NOBODY)
            Place(Path(), place.device, place.inode).require()
        except PlaceLost as lost:
            code = 0 if "may not read and write it" in str(lost) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_log_goes_on_where_its_folder_was_removed_or_moved(tmp_path: Path) -> None:
    file, moved = tmp_path / "logs" / "daemon.jsonl", tmp_path / "moved"
    file.parent.mkdir()
    log = _LogFile(file, maxBytes=10_000, backupCount=1)
    with closing(log):
        log.emit(logging.makeLogRecord({"msg": "one"}))
        assert file.read_text() == "one\n"
        shutil.rmtree(file.parent)
        log.emit(logging.makeLogRecord({"msg": "two"}))
        assert file.read_text() == "two\n"
        file.rename(moved)
        log.emit(logging.makeLogRecord({"msg": "three"}))
        assert file.read_text() == "three\n"
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        log.emit(logging.makeLogRecord({"msg": "four"}))
    elsewhere = tmp_path.with_name("elsewhere")
    assert (elsewhere / "moved").read_text() == "two\n"
    assert (elsewhere / "logs" / file.name).read_text() == "three\nfour\n", "where it is now"
