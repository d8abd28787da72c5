"""The daemon is killed at one step, at a time that matters; its next start makes good for it."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bed import HOLD, STUBBORN_CHILD, witnesses
from invariants import Drop, violations
from kills import Point
from scene import Died, Scene, Seen

from alluvium_like.workspace import Workspace

# Notes that it ran; asks, stays or works, as the test wants it.
AGENT = f"""
echo run >> @/runs
if [ -e @/ask ] && ! grep -q blue "$ALLUVIUM_PROMPT_FILE"; then
    echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
    exit 0
fi
if [ -e @/hold ]; then {STUBBORN_CHILD}
{HOLD} fi
echo work > work
git add -A
git commit -q -m "Add the work"
"""
LOST = "again_uncounted"
DONE = "to_integrator"


class OneItem(Scene):
    """A life of one item called `t`."""

    agent = AGENT
    settings = """
[integration]
run_tests = ["git rev-parse 'HEAD^{tree}' >> @/tested"]
[safety]
shutdown_grace_seconds = 0.3
"""

    def drop_all(self) -> None:
        """Drop it."""
        self.drop("t")

    def is_over(self, seen: Seen) -> bool:
        """Tell whether it is done, or wrong."""
        return seen.states("t") <= {"done", "failed", "needs_human", "cancelled"}

    def end_state(self) -> dict[str, object]:
        """Return what every life of it comes to."""
        return {"ends": self.rows("SELECT state FROM tasks"), "base": self.base_files()}

    def kill_at(self, *points: str) -> None:
        """Start the daemon once for each point, at which it kills itself."""
        for point in points:
            self.start(Point.parse(point).environment)
            with pytest.raises(Died) as died:
                self.until(lambda _: False)
            assert died.value.code == -signal.SIGKILL, point

    def rows(self, sql: str) -> list[object]:
        """Return the first column of what the store holds."""
        with closing(sqlite3.connect(Workspace(self.root).database)) as db:
            return [row[0] for row in db.execute(sql)]

    def verdicts(self) -> list[object]:
        return self.rows("SELECT verdict FROM attempts ORDER BY number")

    def runs(self) -> int:
        """Return how often the agent ran."""
        return (self.bed.open / "runs").read_text().count("run")

    def assert_landed_once(self) -> None:
        """The item landed, once, and nothing is left of the crash."""
        found = [(row["state"], row["outcome"]) for row in self.look().tasks.values()]
        assert found == [("done", "merged")], self.explain()
        assert self.bed.base_file("work") == "work"
        assert len(self.bed.landed_task_ids()) == 1
        assert violations(self.life()) == []
        assert self.bed.git("status", "--porcelain") == ""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> OneItem:
    return OneItem.template(tmp_path_factory.mktemp("kills") / "template")


@pytest.fixture
def life(template: OneItem, tmp_path: Path) -> Iterator[OneItem]:
    life = template.begin(tmp_path / "life")
    yield life
    life.end()


def test_a_kill_while_an_item_settles_leaves_the_inbox_untouched(life: OneItem) -> None:
    life.configure(life.settings + "inbox_settle_seconds = 3600\n")
    item = life.bed.inbox / "t"
    before = item.stat()
    life.start()
    life.until(lambda _: life.is_ready())
    # What can never be taken and came by a rename need not settle: so the inbox was looked at.
    pipe = life.place / "pipe"
    os.mkfifo(pipe)
    life.dropped.append(Drop.of(pipe))
    pipe.rename(life.bed.inbox / "pipe")
    life.until(lambda _: any(Workspace(life.root).quarantine.glob("*/pipe")))
    life.end()
    assert item.stat() == before
    assert life.rows("SELECT task_id FROM claims UNION SELECT id FROM tasks") == []
    assert list(Workspace(life.root).tasks.iterdir()) == []
    life.configure()
    life.drain()
    life.assert_landed_once()


@pytest.mark.parametrize("point", ["store.claim_begun@1:after", "claim.rename@1:before"])
def test_a_claim_that_was_cut_off_before_its_rename_is_begun_anew(
    life: OneItem, point: str
) -> None:
    life.kill_at(point)
    (claimed,) = life.rows("SELECT task_id FROM claims")
    assert (life.bed.inbox / "t").exists()
    life.drain()
    life.assert_landed_once()
    assert not Workspace(life.root).task(str(claimed)).root.exists()


@pytest.mark.parametrize("point", ["claim.rename@1:after", "store.claimed@1:before"])
def test_a_claim_that_was_cut_off_after_its_rename_is_finished(life: OneItem, point: str) -> None:
    life.kill_at(point)
    (claimed,) = life.rows("SELECT task_id FROM claims")
    assert not (life.bed.inbox / "t").exists()
    life.drain()
    life.assert_landed_once()
    assert life.rows("SELECT id FROM tasks") == [claimed]


@pytest.mark.parametrize(
    ("point", "warm"), [("git.read-tree@1:after", 0), ("warm.hand_out@1:after", 1)]
)
def test_half_a_worktree_is_thrown_away(life: OneItem, point: str, warm: int) -> None:
    life.configure(life.settings + f"warm_worktrees = {warm}\n")
    life.kill_at(point)
    (half,) = Workspace(life.root).worktrees.iterdir()
    (half / "half").touch()
    life.drain()
    life.assert_landed_once()
    assert life.bed.git("ls-tree", "--name-only", "main", "half") == ""
    assert life.verdicts() == [LOST, DONE]
    assert life.runs() == 1


def test_half_a_worktree_of_a_task_that_was_cancelled_meanwhile_is_thrown_away(
    life: OneItem,
) -> None:
    life.kill_at("warm.hand_out@1:after")
    life.bed.cli("cancel", "t")
    life.start()
    life.live()
    assert life.look().states("t") == {"cancelled"}
    assert violations(life.life()) == []


@pytest.mark.parametrize(
    ("point", "is_stored"),
    [("attempt.spawn@1:after", False), ("store.attempt_started@1:after", True)],
    ids=["before its number is stored", "while it works"],
)
def test_an_agent_does_not_outlive_the_next_start_and_its_attempt_does_not_count(
    life: OneItem, point: str, is_stored: bool
) -> None:
    (life.bed.open / "hold").touch()
    life.kill_at(point)
    assert life.rows("SELECT pid IS NOT NULL FROM attempts") == [is_stored]
    run = witnesses(life.bed, "t", "agent", "child")
    assert [process.alive() for process in run] == [True, True], "nobody ended them meanwhile"
    life.start()
    life.until(lambda _: life.is_ready())
    assert [process.alive() for process in run] == [False, False]
    life.bed.release("t")
    life.live()
    life.assert_landed_once()
    assert life.verdicts() == [LOST, DONE]


@pytest.mark.parametrize(
    ("point", "runs"),
    [("store.attempt_ended@1:before", 2), ("store.attempt_ended@1:after", 1)],
)
def test_what_an_agent_left_is_read_once(life: OneItem, point: str, runs: int) -> None:
    (life.bed.open / "ask").touch()
    life.kill_at(point)
    life.drain()
    assert life.look().states("t") == {"needs_human"}
    assert life.runs() == runs
    assert life.rows("SELECT question FROM checkpoints") == ["Which colour?"]
    assert life.verdicts() == [LOST] * (runs - 1) + ["ask_human"]
    assert violations(life.life()) == []


@pytest.mark.parametrize(
    "point",
    ["git.unpack-objects@1:before", "git.unpack-objects@1:after", "refs.carried@1:after"],
)
def test_work_that_was_cut_off_on_its_way_is_fetched_again(life: OneItem, point: str) -> None:
    life.kill_at(point)
    life.drain()
    life.assert_landed_once()
    assert life.verdicts() == [LOST, DONE]


@pytest.mark.parametrize("point", ["store.landing_prepared@1:after", "landing.ref@1:before"])
def test_a_landing_that_was_cut_off_before_the_ref_moved_is_made_once(
    life: OneItem, point: str
) -> None:
    before = life.bed.git("rev-parse", "main")
    life.kill_at(point)
    (prepared,) = life.rows("SELECT new_commit FROM landings")
    assert life.bed.git("rev-parse", "main") == before
    life.drain()
    life.assert_landed_once()
    assert life.bed.git("rev-parse", "main") == prepared, "the commit that was tested"
    assert life.runs() == 1


@pytest.mark.parametrize("point", ["landing.ref@1:after", "store.landed@1:before"])
def test_a_landing_that_was_cut_off_after_the_ref_moved_is_found(life: OneItem, point: str) -> None:
    life.kill_at(point)
    landed = life.bed.git("rev-parse", "main")
    assert len(life.bed.landed_task_ids()) == 1
    assert life.look().states("t") == {"integrating"}
    life.drain()
    life.assert_landed_once()
    assert life.bed.git("rev-parse", "main") == landed
    assert life.runs() == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_answer_is_acknowledged_only_when_it_is_stored(life: OneItem, moment: str) -> None:
    (life.bed.open / "ask").touch()
    life.start(Point.parse(f"store.answered@1:{moment}").environment)
    life.until(lambda seen: seen.states("t") == {"needs_human"})
    told = life.bed.cli("answer", "t", "blue", code=1)
    with pytest.raises(Died):
        life.until(lambda _: False)
    assert told.count("\n") == 1, "the person is told in one line that it may be lost"
    is_stored = moment == "after"
    assert life.rows("SELECT answer FROM checkpoints") == ["blue" if is_stored else None]
    life.start()
    life.until(lambda _: life.is_ready())
    if not is_stored:
        assert life.bed.cli("answer", "t", "blue")
        assert life.rows("SELECT answer FROM checkpoints") == ["blue"]
    life.live()
    life.assert_landed_once()
    assert life.verdicts() == ["ask_human", DONE]


@pytest.mark.parametrize(
    "points",
    [
        (
            "store.attempt_started@1:after",
            *("store.attempt_lost@1:before", "store.attempt_lost@1:after"),
            *("trash.move@1:before", "trash.move@1:after", "trash.move@2:after"),
        ),
        (
            "claim.rename@1:after",
            *("store.half_claim_ended@1:before", "store.half_claim_ended@1:after"),
        ),
        ("landing.ref@1:after", "store.base_moved@1:before", "store.set_meta@1:before"),
    ],
    ids=["of an attempt", "of a claim", "of a landing"],
)
def test_a_recovery_that_is_killed_again_and_again_converges(
    life: OneItem, points: tuple[str, ...]
) -> None:
    life.kill_at(*points)
    life.drain()
    life.assert_landed_once()


def test_an_item_whose_quarantine_was_cut_off_is_set_aside_once(life: OneItem) -> None:
    os.mkfifo(life.bed.inbox / "pipe")
    life.dropped.append(Drop.of(life.bed.inbox / "pipe"))
    life.kill_at("quarantine.sync_note@1:before", "quarantine.rename@1:before")
    (note,) = Workspace(life.root).quarantine.glob("*/*")
    assert note.name == "reason.txt"
    assert (life.bed.inbox / "pipe").exists()
    life.drain()
    life.assert_landed_once()
    assert [entry["items"] for entry in life.bed.json("quarantine", "list")] == [["pipe"]]


@pytest.mark.parametrize(
    "point", ["file.place@2:before", "file.place@4:before", "file.link@1:after"]
)
def test_no_half_written_file_is_left_for_people(life: OneItem, point: str) -> None:
    life.kill_at(point)
    assert list(life.root.glob("tasks/**/.*.placing"))
    life.drain()
    life.assert_landed_once()
