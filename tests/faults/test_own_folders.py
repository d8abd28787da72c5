"""What the daemon needs of its own workspace, taken away while it runs: no task pays for it."""

import shutil
from pathlib import Path

import pytest
from bed import COMMIT, Bed


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["logs/tests", "worktrees", ".alluvium/trash", ".alluvium/warm"])
def test_a_folder_that_is_gone_is_made_again_and_no_task_pays(bed: Bed, name: str) -> None:
    bed.make(COMMIT, config='[integration]\nrun_tests = ["true"]')
    bed.start()
    remove(bed.root / name)
    bed.drop("t")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert (task["state"], task["outcome"]) == ("done", "merged")


def test_a_folder_that_cannot_be_used_is_told_and_waited_for(bed: Bed) -> None:
    bed.make(COMMIT)
    bed.start()
    workshops = bed.root / ".alluvium" / "workshops"
    remove(workshops)
    workshops.write_text("in the way")
    bed.drop("t")
    bed.wait(lambda: reasons(bed).get("folders", "") != "", "told")
    assert str(workshops) in reasons(bed)["folders"]
    assert "cannot be made again: File exists; give it back" in reasons(bed)["folders"]
    assert bed.task("t")["state"] in ("queued", "running")
    workshops.unlink()
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert (task["state"], task["outcome"]) == ("done", "merged")
    bed.wait(lambda: reasons(bed) == {}, "well again")


def reasons(bed: Bed) -> dict[str, str]:
    return {told["name"]: told["reason"] for told in bed.json("status")["degraded"]}


HELD = """
echo started > "$ALLUVIUM_AGENT_DIR/outputs/started"
while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
"""


@pytest.mark.parametrize("again", ["retry", "cancel"])
def test_work_that_somebody_else_has_landed_is_put_to_a_person(bed: Bed, again: str) -> None:
    bed.make(HELD + COMMIT)
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "running")
    started = bed.folder("t") / ".agent" / "outputs" / "started"
    bed.wait_for_file(started)
    task_id = bed.task("t")["id"]
    landed = bed.commit({"by-hand.txt": "x"}, f"by hand\n\nTask-Id: {task_id}")
    bed.release("t")
    task = bed.wait_for("t", "needs_human", "done")
    assert task["state"] == "needs_human"
    assert task["reason"] == f"main holds commit {landed[:12]}, which says that it is this task's"
    assert bed.landed_task_ids() == [task_id]
    bed.cli(again, task_id)
    if again == "cancel":
        assert bed.task("t")["state"] == "cancelled"
        return
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert task["outcome"] == "merged", "a person wants it once more"


def test_a_backup_replaces_nothing_but_backups(bed: Bed, tmp_path: Path) -> None:
    bed.make()
    config = bed.root / "config.toml"
    before = config.read_bytes()
    for target in (config, tmp_path / "link"):
        if target != config:
            target.symlink_to(config)
        said = bed.cli("backup", str(target), "--force", code=2)
        assert (
            said
            == f"alluvium-like: {target}: is there already, and is no backup; name another file\n"
        )
        assert config.read_bytes() == before
    saved = tmp_path / "saved"
    saved.touch()
    for _ in range(2):  # over an empty file, and over a backup
        bed.cli("backup", str(saved), "--force")
    assert saved.read_bytes()[:2] == b"\x1f\x8b"
