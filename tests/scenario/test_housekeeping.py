"""`gc` and `quarantine` as people type them, with the daemon up and down."""

import os
import sqlite3
from pathlib import Path

from bed import COMMIT, Bed

LIMITS = "[retention]\ndone_days = 1\nfailed_days = 1\n"
AGENT = f"""
case "$ALLUVIUM_TASK_ID" in
*good*) {COMMIT} ;;
*bad*) {COMMIT} exit 1 ;;
*asks*)
    [ -z "${{ALLUVIUM_ANSWERED:-}}" ] || exit 0
    {COMMIT} echo "Which?" > "$ALLUVIUM_AGENT_DIR/needs_human.md" ;;
esac
"""
ESCAPE = b"\x1b[31mred\x07"


def let_age(bed: Bed, name: str = "%") -> None:
    """Let the tasks have ended long ago."""
    db = sqlite3.connect(bed.root / ".alluvium" / "alluvium.db")
    with db:
        db.execute(
            "UPDATE tasks SET updated_at = '2020-01-01T00:00:00.000Z' WHERE name LIKE ?", (name,)
        )
    db.close()


def worked(bed: Bed) -> Bed:
    """Have one task merged, one failed, and one that asks; the daemon runs."""
    bed.make(agent=AGENT, config=LIMITS)
    bed.start()
    for name, state in (("good", "done"), ("bad", "failed"), ("asks", "needs_human")):
        bed.drop(name)
        bed.wait_for(name, state)
    return bed


def kinds(document: dict[str, list[dict[str, str]]]) -> list[tuple[str, str]]:
    return sorted((removal["kind"], removal["path"]) for removal in document["removals"])


def refs(bed: Bed) -> str:
    return bed.git("for-each-ref", "refs/alluvium", cwd=bed.root / ".alluvium" / "integration.git")


def test_gc_says_what_would_go_and_then_lets_exactly_that_go(bed: Bed) -> None:
    worked(bed)
    bed.stop()
    good, bad, asks = (bed.folder(name) for name in ("good", "bad", "asks"))
    assert bed.cli("gc", "--dry-run") == "nothing has been kept too long\n"
    let_age(bed)
    would_go = bed.json("gc", "--dry-run")
    assert would_go["bytes"] > 0
    assert kinds(would_go) == sorted(
        [
            ("folder", f"tasks/{good.name}"),
            ("folder", f"tasks/{bad.name}"),
            *([("ref", f"refs/alluvium/tasks/{bad.name}")] if bad.name in refs(bed) else []),
        ]
    )
    text = bed.cli("gc", "--dry-run")
    assert f"tasks/{bad.name}  failed for " in text
    assert "retention.failed_days is 1" in text
    assert good.exists()
    assert bad.exists()

    assert kinds(bed.json("gc")) == kinds(would_go)
    assert f"tasks/{good.name}" in (bed.root / "logs" / "daemon.jsonl").read_text()
    assert not good.exists()
    assert not bad.exists()
    assert not list((bed.root / ".alluvium" / "trash").iterdir())
    assert asks.exists()
    assert asks.name in refs(bed)
    assert bad.name not in refs(bed)
    assert bed.cli("gc") == "nothing has been kept too long\n"

    assert bed.landed_task_ids() == [good.name]
    assert bed.json("show", good.name)["merge_commit"] == bed.git("rev-parse", "main")
    assert len(bed.json("list")) == 3
    assert "done/merged" in bed.cli("list")


def test_the_daemon_keeps_house_by_itself(bed: Bed) -> None:
    worked(bed)
    bed.stop()
    let_age(bed)
    good, bad, asks = (bed.folder(name) for name in ("good", "bad", "asks"))
    bed.start()
    bed.wait(lambda: not good.exists() and not bad.exists(), "removed")
    assert asks.exists()
    bed.cli("answer", asks.name, "This one.")
    bed.wait_for("asks", "done")
    assert asks.name in bed.landed_task_ids()


def test_a_changed_limit_counts_at_the_reload(bed: Bed) -> None:
    worked(bed)
    let_age(bed, "good")
    good, bad = bed.folder("good"), bed.folder("bad")
    bed.configure("[retention]\ndone_days = 2\nfailed_days = 1\n")
    bed.cli("reload")
    bed.wait(lambda: not good.exists(), "removed")
    assert bad.exists()


def test_gc_refuses_a_configuration_that_it_cannot_read(bed: Bed) -> None:
    bed.make()
    (bed.root / "config.toml").write_text("[retention]\ndone_days = -1\n")
    for words in (("gc",), ("gc", "--dry-run")):
        assert "[retention].done_days: too small" in bed.cli(*words, code=1)


def test_before_the_first_start_there_is_nothing_to_do(bed: Bed) -> None:
    bed.make()
    assert bed.cli("gc", "--dry-run") == "nothing has been kept too long\n"
    assert bed.cli("gc") == "nothing has been kept too long\n"
    assert bed.cli("quarantine", "list") == "nothing is in quarantine\n"


def test_quarantine_from_the_reason_to_the_way_back(bed: Bed) -> None:
    bed.make(agent=AGENT)
    folder = bed.inbox / "good-thing"
    folder.mkdir()
    (folder / "request.md").write_text("please")
    os.mkfifo(folder / "pipe")
    hostile = Path(os.fsdecode(os.fsencode(bed.inbox) + b"/" + ESCAPE))
    os.mkfifo(hostile)
    bed.start()
    bed.wait(lambda: len(bed.json("quarantine", "list")) == 2, "quarantined")

    listed = bed.cli("quarantine", "list")
    assert "FIFO" in listed
    shown = bed.cli("quarantine", "show", "good-thing")
    assert "item    good-thing\n" in shown
    for text in (listed, shown, bed.cli("quarantine", "show", "31mred")):
        assert "\x1b" not in text
        assert "\x07" not in text
    (entry,) = [e for e in bed.json("quarantine", "list") if e["items"] == ["good-thing"]]
    assert entry == {
        **bed.json("quarantine", "show", entry["name"]),
        "age_seconds": entry["age_seconds"],
    }

    (Path(entry["path"]) / "good-thing" / "pipe").unlink()
    assert bed.cli("quarantine", "release", "good-thing") == "back in the inbox: good-thing\n"
    bed.wait_for("good-thing", "done")
    bed.stop()

    assert "deleted: " in bed.cli("quarantine", "drop", "red")
    assert bed.json("quarantine", "list") == []
    assert not list((bed.root / ".alluvium" / "trash").iterdir())
    assert "quarantine list" in bed.cli("quarantine", "drop", "red", code=1)
