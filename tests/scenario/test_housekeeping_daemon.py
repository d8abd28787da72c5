"""Housekeeping of the running daemon: `gc` through it, a full disk, a log that grows."""

import json

from bed import Bed
from test_housekeeping import LIMITS, kinds, let_age, worked

TOO_MUCH = 10**17


def test_gc_has_the_daemon_do_it(bed: Bed) -> None:
    worked(bed)
    let_age(bed)
    good, bad, asks = (bed.folder(name) for name in ("good", "bad", "asks"))
    gone = bed.json("gc")
    assert ("folder", f"tasks/{good.name}") in kinds(gone)
    assert ("folder", f"tasks/{bad.name}") in kinds(gone)
    assert not good.exists()
    assert not bad.exists()
    assert asks.exists()
    assert bed.cli("gc") == "nothing has been kept too long\n"


def test_a_task_whose_folder_went_is_not_run_again(bed: Bed) -> None:
    worked(bed)
    let_age(bed, "bad")
    bad = bed.folder("bad")
    bed.cli("gc")
    assert not bad.exists()
    assert "its folder was removed" in bed.cli("retry", bad.name, code=1)
    assert bed.json("show", bad.name)["state"] == "failed"
    bed.stop()
    assert "its folder was removed" in bed.cli("retry", bad.name, code=1)


def test_below_the_floor_the_inbox_is_left_alone_and_then_taken_up_again(bed: Bed) -> None:
    bed.make(config=f"[retention]\nmin_free_bytes = {TOO_MUCH}\n")
    bed.drop("early")
    bed.start()
    bed.drop("item")

    def is_told() -> bool:
        return [told["name"] for told in bed.json("status")["degraded"]] == ["disk"]

    bed.wait(is_told, "condition")
    assert "retention.min_free_bytes" in bed.cli("status")
    assert bed.json("list") == []
    assert (bed.inbox / "item").exists()
    bed.configure("[retention]\nmin_free_bytes = 0\n")
    bed.cli("reload")
    for name in ("early", "item"):
        bed.wait_for(name, "done")
    assert bed.json("status")["daemon"]["state"] == "running"


def test_run_once_does_not_wait_for_room(bed: Bed) -> None:
    bed.make(config=f"[retention]\nmin_free_bytes = {TOO_MUCH}\n")
    bed.drop("item")
    assert "retention.min_free_bytes" in bed.cli("run-once", code=1)
    assert (bed.inbox / "item").exists()


def test_the_log_begins_anew_when_it_is_large_and_some_older_ones_are_kept(bed: Bed) -> None:
    bed.make(config=f"{LIMITS}log_bytes = 1000\nlog_files = 2\n")
    bed.start()
    for number in range(6):
        bed.drop(f"item-{number}")
    bed.wait_until_idle()
    bed.stop()
    logs = sorted((bed.root / "logs").glob("daemon.jsonl*"))
    assert [path.name for path in logs] == ["daemon.jsonl", "daemon.jsonl.1", "daemon.jsonl.2"]
    for path in logs:
        lines = path.read_text().splitlines()
        assert all(json.loads(line)["event"] for line in lines)
        assert path.stat().st_size <= 1000 or len(lines) == 1
