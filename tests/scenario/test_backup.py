"""backup and restore of workspaces at work: whatever the moment, nothing is lost or done twice."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from bed import COMMIT, HOLD, Bed, witnesses
from test_verify import BUSY, NAMES, make_busy, report

from alluvium_like.store.snapshot import take_snapshot
from alluvium_like.surface import backup
from alluvium_like.workspace import Workspace

SLOW = 'sleep 0.1\necho "$ALLUVIUM_TASK_ID" > "$ALLUVIUM_TASK_ID.txt"\n'


def other(bed: Bed, name: str = "new") -> Bed:
    """Return a bed for a workspace beside another, with the same agent."""
    made = Bed.__new__(Bed)
    made.root, made.home, made.environment = bed.root.parent / name, bed.home, bed.environment
    made.open, made.unboxed = bed.open, bed.unboxed
    return made


def restore(bed: Bed, file: Path, name: str = "new") -> tuple[Bed, str]:
    new = other(bed, name)
    done = bed.run("restore", str(file), str(new.root))
    assert done.returncode == 0, done.stderr
    return new, done.stdout


@pytest.fixture
def file(bed: Bed) -> Path:
    return bed.root.parent / "backup.tar.gz"


def test_a_busy_workspace_is_saved_while_it_works_and_goes_on_elsewhere(
    bed: Bed, file: Path
) -> None:
    make_busy(bed)
    before = bed.json("list")
    said = bed.cli("backup", str(file), "--with-repo")
    assert said.startswith(f"saved: {file} (")
    assert "not saved" not in said
    assert "there already" in bed.cli("backup", str(file), code=1)
    bed.cli("backup", str(file), "--with-repo", "--force")
    new, said = restore(bed, file)
    try:
        assert "restored: " in said
        assert "paused" not in said
        assert new.json("list") == before
        assert report(new) == []
        asked = bed.task("asked")["id"]
        assert new.cli("diff", asked) == bed.cli("diff", asked) != ""
        new.set_agent('echo "red" > colour.txt\n')
        new.start()
        assert report(new) == []
        new.cli("answer", asked, "Red.")
        new.wait_for("asked", "done")
        # The owner's edit that stood in the way was not committed, so it is in no backup.
        assert new.wait_for("blocked", "done")["outcome"] == "merged"
        assert set(new.landed_task_ids()) > set(bed.landed_task_ids())
        assert report(new) == []
    finally:
        new.stop()
    assert bed.json("list") == before
    assert report(bed) == []


def test_backups_taken_at_any_moment_are_whole_and_land_everything_once(
    bed: Bed, file: Path
) -> None:
    bed.make(SLOW, config="[safety]\nmax_workers = 3")
    bed.start()
    names = [f"t{number}" for number in range(12)]
    files = []
    for number, name in enumerate(names):
        bed.drop(name)
        if number % 3 == 2:
            files.append(file.with_name(f"{number}.tar.gz"))
            bed.cli("backup", str(files[-1]), "--with-repo")
            assert report(bed) == [], "what is under way is nothing wrong"
    bed.wait_until_idle()
    bed.stop()
    for number, each in enumerate(files):
        new, said = restore(bed, each, f"new{number}")
        assert report(new) == [], said
        dropped = {task["name"] for task in new.json("list")}
        dropped |= {path.name for path in new.inbox.iterdir()}
        assert dropped >= set(names[: 3 * number + 3]), "nothing that was there is missing"
        new.cli("run-once", "--ignore-settle")
        landed = new.landed_task_ids()
        assert len(landed) == len(new.json("list", "--state", "done")) == len(dropped)
        assert report(new) == []


def test_a_running_task_is_queued_again_and_the_old_agent_is_left_alone(
    bed: Bed, file: Path
) -> None:
    bed.make(HOLD + COMMIT)
    bed.start()
    bed.drop("t")
    (agent,) = witnesses(bed, "t", "agent")
    bed.cli("backup", str(file), "--with-repo")
    new, _ = restore(bed, file)
    assert new.task("t")["state"] == "running"
    new.release("t")
    new.cli("run-once")
    assert agent.alive(), "it is the old workspace's"
    task = new.task("t")
    assert (task["state"], task["outcome"], task["attempts"]) == ("done", "merged", 2)
    assert report(new) == []


def test_work_that_landed_after_the_backup_is_not_done_again_unasked(bed: Bed, file: Path) -> None:
    repo = bed.root.parent / "project"
    bed.cli("init", str(bed.root))
    shutil.copytree(bed.repo, repo)
    bed.set_agent(SLOW)
    bed.configure(repo=repo)
    bed.cli("pause")
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "queued")
    bed.cli("backup", str(file))
    bed.cli("resume")
    bed.wait_for("t", "done")
    bed.stop()
    new, said = restore(bed, file)
    assert f"landed already: {new.task('t')['id']}" in said
    assert "paused: look at these tasks first" in said
    assert "have landed since" in json.dumps(new.json("status")["conditions"])
    new.cli("cancel", new.task("t")["id"])
    new.cli("backup", str(file), "--force")
    _, said = restore(new, file, "third")
    assert "is cancelled, and main holds it as" in said
    assert "leave it as it is" in said
    assert "paused" not in said, "there is nothing to look at before it may go on"
    new.cli("resume")
    new.cli("run-once")
    landed = bed.git("log", "--format=%(trailers:key=Task-Id,valueonly)", "main", cwd=repo)
    assert landed.split() == [new.task("t")["id"]]


def test_work_whose_refs_are_gone_since_is_restored(
    bed: Bed, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are saved first: what lands right after them has lost its ref by then."""
    bed.make(SLOW, config="[integration]\nenabled = false")
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "worker_done")

    def take_and_land(store: Path, target: Path) -> None:
        take_snapshot(store, target)
        bed.configure()
        bed.cli("reload")
        bed.wait_for("t", "done")
        bed.stop()
        integration = bed.root / ".alluvium" / "integration.git"
        assert "alluvium/tasks" not in bed.git("for-each-ref", cwd=integration)

    monkeypatch.setattr("alluvium_like.surface.backup.take_snapshot", take_and_land)
    backup.back_up(Workspace.at(bed.root), file, force=False, with_repo=False)
    new, said = restore(bed, file)
    assert new.task("t")["state"] == "worker_done"
    clone = said.split("git clone ")[1].split(" Next:")[0].splitlines()[0].split()
    bed.git("clone", "-q", *clone, cwd=tmp_path)
    assert report(new) == [], "the clone that is advised is the base of the rows"
    new.configure()
    new.cli("run-once")
    assert new.task("t")["outcome"] == "merged"
    assert new.landed_task_ids() == [new.task("t")["id"]]


def test_a_missing_repository_is_told_and_nothing_else_is_wrong(bed: Bed, file: Path) -> None:
    bed.make(BUSY)
    for name in NAMES:
        bed.drop(name)
    bed.cli("run-once", "--ignore-settle")
    bed.cli("backup", str(file))
    shutil.rmtree(bed.root)
    new, said = restore(bed, file, bed.root.name)
    assert new.root == bed.root
    assert said.count("repository: ") == 1
    assert f"{new.repo}: there is no Git repository; put it back" in said
    assert [finding["kind"] for finding in report(new)] == ["repository"]
    assert not new.repo.exists()


def test_a_repository_elsewhere_is_left_alone_and_its_bundle_kept(bed: Bed, file: Path) -> None:
    repo = bed.root.parent / "project"
    bed.cli("init", str(bed.root))
    shutil.copytree(bed.repo, repo)
    bed.configure(repo=repo)
    bed.cli("run-once")
    bed.cli("backup", str(file), "--with-repo")
    head = bed.git("rev-parse", "HEAD", cwd=repo)
    new, said = restore(bed, file)
    assert "note: repo.bundle: " in said
    assert bed.git("rev-parse", "HEAD", cwd=repo) == head
    assert not new.repo.exists()
    bed.git("clone", "-q", str(new.root / "repo.bundle"), str(new.root.parent / "clone"), cwd=repo)
    assert bed.git("rev-parse", "HEAD", cwd=new.root.parent / "clone") == head


def test_the_command_line_refuses_with_one_line(bed: Bed, file: Path) -> None:
    bed.make()
    for args, code in (
        (["backup", str(bed.inbox / "b")], 2),
        (["backup", str(bed.root / "nowhere" / "b")], 2),
        (["restore", str(file), str(bed.root.parent / "new")], 1),
        (["restore", "/dev/null", str(bed.root.parent / "new")], 1),
        (["restore", str(bed.root / "config.toml"), str(bed.root.parent / "new")], 1),
    ):
        said = bed.cli(*args, code=code)
        assert said.startswith("alluvium-like: ")
        assert said.count("\n") == 1, said
    assert not (bed.root.parent / "new").exists()
    bed.cli("backup", str(file))
    assert "is not empty" in bed.cli("restore", str(file), str(bed.root), code=1)


def test_it_is_restored_into_the_current_folder(bed: Bed, file: Path) -> None:
    bed.make()
    bed.drop("item")
    bed.cli("backup", str(file), "--with-repo")
    folder = bed.root.parent / "current"
    folder.mkdir()
    assert bed.run("restore", str(file), cwd=folder).returncode == 0
    assert bed.run("verify", cwd=folder).stdout == "nothing is wrong\n"
    assert [path.name for path in (folder / "inbox").iterdir()] == ["item"]
    with tarfile.open(file) as archive:
        assert archive.getnames()[0] == "manifest.json"
