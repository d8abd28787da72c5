"""Warm worktrees in the whole daemon: handed on clean, at once, also after a kill."""

import os
import time
from pathlib import Path

import pytest
from bed import COMMIT, Bed

GIT_THAT_TELLS = """\
#!/bin/sh
echo "$*" >> {calls}
case "$*" in *read-tree*) while [ -e {hold} ]; do sleep 0.05; done;; esac
exec {git} "$@"
"""
REPORT = """
cp "$CALLS" "$ALLUVIUM_AGENT_DIR/outputs/calls" 2>/dev/null || true
find . -name .git -prune -o -print | sort > "$ALLUVIUM_AGENT_DIR/outputs/files"
stat -c %i kept > "$ALLUVIUM_AGENT_DIR/outputs/inode"
stat -c %a AGENTS.md > "$ALLUVIUM_AGENT_DIR/outputs/mode"
"""
MESS = """
mkdir -p build/deep node_modules; echo '*' > build/.gitignore; echo x > build/deep/x.o
echo '*' > node_modules/.gitignore; echo x > node_modules/x
git update-index --skip-worktree AGENTS.md; chmod 600 AGENTS.md
"""


def _is_later(marker: Path, file: Path) -> bool:
    """Tell whether the checkout that wrote a file is over."""
    return marker.stat().st_ctime_ns >= file.stat().st_ctime_ns


class WarmBed:
    """A workspace whose daemon calls git through a script that writes each call down."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.hold = bed.root.parent / "hold"
        self.calls = bed.open / "calls"
        self._path = bed.environment["PATH"]
        shim = bed.root.parent / "bin" / "git"
        shim.parent.mkdir()
        found = next(p for d in self._path.split(":") if os.access(p := f"{d}/git", os.X_OK))
        shim.write_text(GIT_THAT_TELLS.format(calls=self.calls, hold=self.hold, git=found))
        shim.chmod(0o755)

    def make(self, agent: str, config: str = "") -> None:
        plain = f'PATH="{self._path}"; CALLS="{self.calls}"\n'
        self.bed.make(plain + agent, config=config)
        self.bed.commit({"kept": "kept"})

    def start(self) -> None:
        path = f"{self.bed.root.parent / 'bin'}:{self._path}"
        self.bed.environment["PATH"] = path
        self.bed.start()
        self.bed.environment["PATH"] = self._path

    @property
    def folder(self) -> Path:
        return self.bed.root / ".alluvium" / "warm"

    def wait_until(self, trees: int, having: str = "AGENTS.md") -> None:
        """Wait until so many trees are there, each with a file and without a task's mess."""

        def ready() -> bool:
            found = list(self.folder.iterdir())
            return len(found) == trees and all(
                (one / "marker").exists()
                and (one / "tree" / having).exists()
                and _is_later(one / "marker", one / "tree" / having)
                and not (one / "tree" / "build").exists()
                for one in found
            )

        deadline = time.monotonic() + 30
        while not ready():  # nothing that tells of them is logged
            assert time.monotonic() < deadline, self.bed.explain()
            time.sleep(0.02)

    def checkouts(self, text: str) -> int:
        return sum(" read-tree " in line for line in text.splitlines())

    def report(self, name: str, what: str) -> str:
        return (self.bed.folder(name) / ".agent" / "outputs" / what).read_text()


@pytest.fixture
def warm(bed: Bed) -> WarmBed:
    return WarmBed(bed)


def test_a_task_gets_the_tree_of_an_earlier_one_clean_and_without_a_process(warm: WarmBed) -> None:
    bed = warm.bed
    warm.make(REPORT + COMMIT + MESS, config="[safety]\nmax_workers = 1\nwarm_worktrees = 1")
    warm.start()
    warm.wait_until(1)
    bed.drop("one")
    first = bed.wait_for("one", "done", "failed")
    assert first["outcome"] == "merged"
    added = bed.git("ls-tree", "--name-only", "main").split()
    assert f"{first['id']}.txt" in added
    warm.wait_until(1, having=f"{first['id']}.txt")
    before = warm.checkouts(warm.calls.read_text())
    bed.drop("two")
    assert bed.wait_for("two", "done", "failed")["outcome"] == "merged"
    assert warm.checkouts(warm.report("two", "calls")) == before, "handed over without a process"
    assert warm.report("two", "inode") == warm.report("one", "inode")
    assert warm.report("two", "mode") == warm.report("one", "mode")
    landed = {*warm.report("one", "files").split(), f"./{first['id']}.txt"}
    assert set(warm.report("two", "files").split()) == landed


def test_after_a_kill_what_was_warm_is_cleaned_and_serves_again(warm: WarmBed) -> None:
    bed = warm.bed
    warm.make(REPORT + COMMIT, config="[safety]\nmax_workers = 1\nwarm_worktrees = 1")
    warm.start()
    warm.wait_until(1)
    bed.kill()
    (folder,) = warm.folder.iterdir()
    inode = (folder / "tree" / "kept").stat().st_ino
    (folder / "tree" / "left").write_text("left by an agent")
    (folder / "index.lock").write_text("")
    warm.start()
    bed.drop("t")
    assert bed.wait_for("t", "done", "failed")["outcome"] == "merged"
    assert int(warm.report("t", "inode")) == inode
    assert "left" not in warm.report("t", "files")


def test_without_warm_trees_none_is_made_and_a_reload_gives_the_room_back(warm: WarmBed) -> None:
    bed = warm.bed
    warm.make(COMMIT, config="[safety]\nwarm_worktrees = 0")
    warm.start()
    bed.drop("one")
    assert bed.wait_for("one", "done")["outcome"] == "merged"
    assert not any(warm.folder.iterdir())
    bed.configure("[safety]\nmax_workers = 3\nwarm_worktrees = 2")
    bed.cli("reload")
    warm.wait_until(2)
    bed.configure("[safety]\nwarm_worktrees = 0")
    bed.cli("reload")
    deadline = time.monotonic() + 30
    while any(warm.folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stop_waits_for_no_checkout_in_the_background(warm: WarmBed) -> None:
    warm.make(COMMIT, config="[safety]\nshutdown_grace_seconds = 30")
    warm.hold.touch()
    warm.start()
    warm.bed.wait(
        lambda: warm.calls.exists() and " read-tree " in warm.calls.read_text(), "a checkout"
    )
    begun = time.monotonic()
    warm.bed.cli("stop")
    assert time.monotonic() - begun < 5
    warm.hold.unlink()
    warm.start()
    warm.wait_until(2)
    warm.bed.drop("t")
    assert warm.bed.wait_for("t", "done")["outcome"] == "merged"


def test_a_revision_and_a_burst_work_on_warm_trees(warm: WarmBed) -> None:
    bed = warm.bed
    warm.make(
        """
        { grep -v '^[<=>]' shared.txt; cat "$ALLUVIUM_TASK_DIR"/input/*; } | sort -u > all
        mv all shared.txt
        """
        + MESS,
        config="[safety]\nmax_workers = 4\n[integration]\nmax_revision_rounds = 9",
    )
    bed.commit({"shared.txt": "start\n"})
    warm.start()
    for number in range(8):
        bed.drop(f"t{number}", f"{number}\n")
    assert bed.wait_until_idle() == {"done": 8}, bed.cli("list")
    assert len(bed.landed_task_ids()) == 8
    assert bed.base_file("shared.txt").split() == [*"01234567", "start"]
    names = bed.git("ls-tree", "-r", "--name-only", "main").split()
    assert not [name for name in names if "node_modules" in name or "build" in name]
