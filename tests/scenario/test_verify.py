"""verify: clean after a busy run, with the daemon up and down; each kind of damage is found."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bed import Bed

BUSY = """
name="$(ls "$ALLUVIUM_TASK_DIR/input")"
echo "$name" > "$ALLUVIUM_TASK_ID.txt"
case "$name" in
    failed*) git add -A; git commit -q -m half; exit 3;;
    asked*) echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md";;
    noop*) rm "$ALLUVIUM_TASK_ID.txt";;
    blocked*) echo changed > AGENTS.md;;
esac
"""
NAMES = ("merged1", "merged2", "merged3", "failed", "asked", "noop")


def make_busy(bed: Bed) -> None:
    """Let a daemon end tasks in every way, and stop it with one landing that has to wait."""
    bed.make(BUSY)
    bed.start()
    for name in (*NAMES, "cancelled"):
        bed.drop(name)
    bed.wait_until_idle()
    bed.cli("revert", bed.task("merged1")["id"])
    bed.wait_until_idle()
    (bed.repo / "AGENTS.md").write_text("the owner's edit\n")
    bed.drop("blocked")
    bed.wait_for_reason("blocked", "the landing waits")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    """A workspace after a busy run, its daemon stopped; tests damage copies of it."""
    bed = Bed(tmp_path_factory.mktemp("busy") / "ws")
    try:
        make_busy(bed)
        assert report(bed) == [], "while the daemon runs"
    finally:
        bed.stop()
    return bed


@pytest.fixture
def damaged(busy: Bed, tmp_path: Path) -> Bed:
    """A copy of the busy workspace that may be damaged."""
    root = tmp_path / "ws"
    shutil.copytree(busy.root, root, symlinks=True)
    return Bed(root)


def report(bed: Bed) -> list[dict[str, str]]:
    """Return what verify finds; its exit code must agree."""
    done = bed.run("-C", str(bed.root), "verify", "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if document["findings"] else 0)
    assert document["ok"] is not bool(document["findings"])
    assert all(finding["advice"] for finding in document["findings"])
    found: list[dict[str, str]] = document["findings"]
    return found


def found(bed: Bed) -> set[tuple[str, str]]:
    return {(finding["kind"], finding["subject"]) for finding in report(bed)}


def sql(bed: Bed, text: str, *values: str) -> None:
    """Change rows behind the back of every rule."""
    with closing(sqlite3.connect(bed.root / ".alluvium" / "alluvium.db")) as db, db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(text, values)


def git(bed: Bed, *args: str) -> str:
    return bed.git(*args, cwd=bed.root / ".alluvium" / "integration.git")


def test_a_busy_workspace_is_clean_with_the_daemon_up_and_down(busy: Bed) -> None:
    states = {task["state"] for task in busy.json("list")}
    assert states == {"done", "failed", "needs_human", "integrating"}
    assert report(busy) == []
    assert busy.cli("verify") == "nothing is wrong\n"


def test_a_workspace_that_never_ran_is_clean(bed: Bed) -> None:
    bed.make()
    assert report(bed) == []


def test_verify_changes_nothing(damaged: Bed) -> None:
    def facts() -> dict[Path, tuple[int, int]]:
        readers = ("alluvium.db-wal", "alluvium.db-shm")  # SQLite's own, of whoever reads
        paths = [p for p in damaged.root.rglob("*") if p.is_file() and p.name not in readers]
        return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in paths}

    before = facts()
    assert report(damaged) == []
    assert facts() == before


def test_a_torn_page_of_the_store_is_found(damaged: Bed) -> None:
    store = damaged.root / ".alluvium" / "alluvium.db"
    data = bytearray(store.read_bytes())
    data[5 * 4096 : 9 * 4096] = b"\xa5" * (4 * 4096)
    store.write_bytes(data)
    assert ("store", "alluvium.db") in found(damaged)


def test_what_is_no_store_at_all_is_found(damaged: Bed) -> None:
    (damaged.root / ".alluvium" / "alluvium.db").write_bytes(b"no database\n" * 1000)
    assert found(damaged) == {("store", "alluvium.db")}


def test_a_row_that_belongs_to_none_is_found(damaged: Bed) -> None:
    sql(damaged, "INSERT INTO checkpoints (task_id, attempt, question, created_at)"
        " VALUES ('nobody', 1, '?', '')")  # fmt: skip
    assert found(damaged) == {("store", "alluvium.db")}


def test_a_lost_store_is_found_by_the_folders(damaged: Bed) -> None:
    (damaged.root / ".alluvium" / "alluvium.db").unlink()
    assert {kind for kind, _ in found(damaged)} == {"store"}


def test_a_missing_folder_is_found_unless_its_task_has_ended(damaged: Bed) -> None:
    asked = damaged.folder("asked")
    for name in ("asked", "merged1", "failed"):
        shutil.rmtree(damaged.folder(name))
    assert found(damaged) == {("folder", asked.name)}


def test_a_missing_input_is_found(damaged: Bed) -> None:
    asked = damaged.folder("asked")
    shutil.rmtree(asked / "input")
    assert found(damaged) == {("folder", asked.name)}


def test_a_folder_without_a_task_is_found_unless_it_is_being_claimed(damaged: Bed) -> None:
    for name in ("stray", "claimed"):
        (damaged.root / "tasks" / name).mkdir()
    sql(damaged, "INSERT INTO claims VALUES ('claimed', x'61', 1, 1, 0, '')")
    assert found(damaged) == {("folder", "stray")}


def test_refs_that_are_missing_or_too_many_or_wrong_are_found(damaged: Bed) -> None:
    asked = damaged.folder("asked").name
    ref = f"refs/alluvium/tasks/{asked}"
    work = git(damaged, "rev-parse", ref)
    git(damaged, "update-ref", "-d", ref)
    assert found(damaged) == {("ref", ref)}
    git(damaged, "update-ref", ref, "main")
    assert found(damaged) == {("ref", ref)}
    advice = report(damaged)[0]["advice"].split()
    assert advice[:2] == ["git", "--git-dir=.alluvium/integration.git"]
    damaged.git(*advice[1:], cwd=damaged.root)
    assert git(damaged, "rev-parse", ref) == work
    assert report(damaged) == [], "the advice mends it"
    git(damaged, "update-ref", "refs/alluvium/tasks/nobody", "main")
    assert found(damaged) == {("ref", "refs/alluvium/tasks/nobody")}


def test_a_missing_base_is_found(damaged: Bed) -> None:
    git(damaged, "update-ref", "-d", "refs/alluvium/base")
    assert found(damaged) == {("ref", "refs/alluvium/base")}


def test_commits_that_are_gone_are_found(damaged: Bed) -> None:
    asked = damaged.task("asked")["id"]
    sql(damaged, "UPDATE attempts SET end_commit = ? WHERE task_id = ?", "f" * 40, asked)
    assert ("commit", f"task {asked}") in found(damaged)


def test_a_lost_or_damaged_integration_repository_is_found(damaged: Bed) -> None:
    integration = damaged.root / ".alluvium" / "integration.git"
    (integration / "HEAD").write_text("garbage\n")
    assert found(damaged) == {("repository", "integration.git")}
    shutil.rmtree(integration)
    assert found(damaged) == {("repository", "integration.git")}


def test_a_missing_repository_or_base_branch_is_found(damaged: Bed) -> None:
    damaged.git("branch", "-m", "main", "other")
    assert found(damaged) == {("repository", str(damaged.repo))}
    damaged.repo.rename(damaged.root / "elsewhere")
    (finding,) = report(damaged)
    assert (finding["kind"], finding["subject"]) == ("repository", str(damaged.repo))
    clone = finding["advice"].split("git clone ")[1].split()
    damaged.git("clone", "-q", *clone, cwd=damaged.root)
    assert report(damaged) == [], "the advice mends it"


def test_what_has_landed_and_is_not_in_the_base_is_found(damaged: Bed) -> None:
    commit = damaged.task("merged3")["merge_commit"]
    damaged.git("stash", "-q")
    damaged.git("rebase", "-q", "--onto", f"{commit}^", commit, "main")
    assert found(damaged) == {("history", damaged.task("merged3")["id"])}


def test_a_history_that_was_rewritten_by_rebase_is_no_damage(damaged: Bed) -> None:
    damaged.git("stash", "-q")
    damaged.git("rebase", "-q", "--root", "--force-rebase", "main")
    assert report(damaged) == []


def test_what_landed_twice_is_found(damaged: Bed) -> None:
    merged = damaged.task("merged2")
    message = damaged.git("log", "-1", "--format=%B", merged["merge_commit"])
    damaged.git("commit", "-q", "--allow-empty", "-m", message)
    assert found(damaged) == {("history", merged["id"])}


def test_what_has_landed_and_is_still_to_be_done_is_found(damaged: Bed) -> None:
    asked = damaged.task("asked")["id"]
    damaged.git("commit", "-q", "--allow-empty", "-m", f"Work\n\nTask-Id: {asked}")
    assert found(damaged) == {("landed already", asked)}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE landings SET state = 'blocked' WHERE state = 'landed'",
        "UPDATE landings SET new_commit = old_commit WHERE state = 'blocked'",
        "UPDATE landing_tasks SET commit_id = (SELECT commit_id FROM landing_tasks LIMIT 1)",
    ],
)
def test_a_journal_that_contradicts_the_tasks_is_found(damaged: Bed, change: str) -> None:
    sql(damaged, change)
    assert {kind for kind, _ in found(damaged)} == {"landing"}


def test_a_candidate_that_waits_to_land_without_its_ref_is_found(damaged: Bed) -> None:
    blocked = damaged.task("blocked")["id"]
    git(damaged, "update-ref", "-d", f"refs/alluvium/candidates/{blocked}")
    (finding,) = report(damaged)
    assert finding["kind"] == "landing"
    damaged.git(*finding["advice"].split()[1:], cwd=damaged.root)
    assert report(damaged) == [], "the advice mends it"


def test_states_without_what_belongs_to_them_are_found(damaged: Bed) -> None:
    asked, failed, merged = (damaged.task(n)["id"] for n in ("asked", "failed", "merged1"))
    sql(damaged, "UPDATE checkpoints SET answered_at = 'now' WHERE task_id = ?", asked)
    sql(damaged, "DELETE FROM attempts WHERE task_id = ?", failed)
    sql(damaged, "UPDATE tasks SET merge_commit = '' WHERE id = ?", merged)
    assert {("state", task) for task in (asked, failed, merged)} <= found(damaged)


def test_events_that_do_not_lead_to_the_state_are_found(damaged: Bed) -> None:
    asked, failed, merged = (damaged.task(n)["id"] for n in ("asked", "failed", "merged1"))
    last = "(SELECT max(seq) FROM events WHERE task_id = ?)"
    sql(damaged, f"DELETE FROM events WHERE seq = {last}", asked)
    sql(damaged, f"UPDATE events SET from_state = 'queued' WHERE seq = {last}", merged)
    sql(damaged, "DELETE FROM events WHERE task_id = ?", failed)
    events = {subject for kind, subject in found(damaged) if kind == "events"}
    assert events == {asked, failed, merged}


def test_a_history_file_that_says_something_else_is_found(damaged: Bed) -> None:
    folders = [damaged.folder(name) for name in ("asked", "failed", "merged1", "merged2")]
    files = [folder / ".system" / "events.jsonl" for folder in folders]
    files[0].unlink()
    files[1].write_text(files[1].read_text().replace("running", "queued"))
    files[2].write_text("no json\n")
    files[3].unlink()  # what is left of an ended task may go
    assert found(damaged) == {("events.jsonl", folder.name) for folder in folders[:3]}


def test_a_linked_history_file_is_not_followed(damaged: Bed) -> None:
    events = damaged.folder("asked") / ".system" / "events.jsonl"
    events.rename(damaged.root / "moved")
    events.symlink_to(damaged.root / "moved")
    assert found(damaged) == {("events.jsonl", damaged.folder("asked").name)}


def test_findings_are_told_on_one_line_each_with_what_to_do(damaged: Bed) -> None:
    (damaged.root / "tasks" / "stray\n\x1b[2J").mkdir()
    done = damaged.run("-C", str(damaged.root), "verify")
    assert done.returncode == 1
    assert done.stdout.count("\n") == 2
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("1 wrong\n")


def test_after_a_kill_all_is_well_before_and_after_the_next_start(bed: Bed) -> None:
    bed.make('sleep 0.05; echo work > "$ALLUVIUM_TASK_ID.txt"\n')
    bed.start()
    for number in range(6):
        bed.drop(f"t{number}")
    bed.wait_for("t2", "worker_done", "integrating", "done")
    bed.kill()
    assert report(bed) == []
    bed.start()
    bed.wait_until_idle()
    assert report(bed) == []
