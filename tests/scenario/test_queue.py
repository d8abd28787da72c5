"""The merge queue: how few runs it needs, whom it blames, what it remembers."""

import sqlite3
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from bed import Bed

from alluvium_like.store.reader import StoreReader

COPY = """
cp "$ALLUVIUM_TASK_DIR"/input/* .
git add -A
git commit -qm work || true
"""
HOLD = "while [ ! -e {open}/go ]; do sleep 0.02; done"


def config(bed: Bed, test: str, more: str = "", *, enabled: bool = True) -> str:
    """Return a configuration whose one test notes the commit it runs on, outside the tree."""
    command = f"git rev-parse HEAD >> {{open}}/runs\n{test}".replace("{open}", str(bed.open))
    switch = "true" if enabled else "false"
    return f"""
[safety]
max_workers = 4
[integration]
enabled = {switch}
parallel_tests = 1
max_revision_rounds = 0
run_tests = ['''
{command}
''']
{more}"""


def runs(bed: Bed) -> list[str]:
    """Return the commits that the tests ran on."""
    path = bed.open / "runs"
    return path.read_text().split() if path.exists() else []


def make_ready(bed: Bed, names: Sequence[str], texts: Sequence[str] = ()) -> None:
    """Let agents finish these items, in this order, while nothing is integrated."""
    bed.configure("[integration]\nenabled = false\n[safety]\nmax_workers = 4")
    bed.start()
    for number, text in enumerate(texts or ["please"] * len(names)):
        bed.drop(names[number], text)
        bed.wait(lambda: sum(counts(bed).values()) > number, "claimed")  # noqa: B023 - used at once
    bed.wait(lambda: counts(bed)["worker_done"] == len(names), "ready")


def counts(bed: Bed) -> dict[str, int]:
    """Return how many tasks are in each state."""
    with StoreReader(bed.root / ".alluvium" / "alluvium.db") as store:
        return store.counts()


def begin(bed: Bed, text: str) -> None:
    """Let the integrator begin, under another configuration."""
    bed.configure(text)
    bed.cli("reload")


def names_on_base(bed: Bed) -> list[str]:
    """Return the names of what landed, oldest first."""
    by_id = {task["id"]: task["name"] for task in bed.json("list")}
    return [by_id[task_id] for task_id in reversed(bed.landed_task_ids())]


def trailer(bed: Bed, commit: str) -> str:
    return bed.git(
        *("log", "-1", "--format=%(trailers:key=Task-Id,valueonly)", commit),
        cwd=bed.root / ".alluvium" / "integration.git",
    )


@pytest.mark.parametrize("slots", [1, 2])
def test_sixteen_good_tasks_cost_as_many_runs_as_there_are_slots(bed: Bed, slots: int) -> None:
    bed.make(COPY)
    names = [f"t{number:02}" for number in range(16)]
    make_ready(bed, names)
    before = len(bed.base_log())
    # What is below ends last: else its slot would be free, and used, before the whole is known.
    last = f"[ $(git rev-list --count HEAD) -eq {before + 16} ] || {{ {HOLD}; }}"
    begin(bed, config(bed, last).replace("parallel_tests = 1", f"parallel_tests = {slots}"))
    assert bed.wait_until_idle() == {"done": 16}
    assert 1 <= len(runs(bed)) <= slots
    assert bed.git("rev-parse", "main") in runs(bed), "what was tested is what landed"
    assert len(bed.base_log()) == before + 16
    assert names_on_base(bed) == names
    queue = bed.json("queue")
    assert (queue["judged"], queue["runs"]) == (16, 1), "what is given up is no run"
    assert queue["runs_saved"] == 15


def test_only_the_bad_come_back_and_all_others_land(bed: Bed) -> None:
    bed.make(COPY)
    names = [f"t{number:02}" for number in range(24)]
    names[7], names[18] = "bad07", "bad18"
    make_ready(bed, names)
    begin(bed, config(bed, "for f in bad*; do [ ! -e $f ] || { echo spoilt by $f; exit 1; }; done"))
    assert bed.wait_until_idle() == {"done": 22, "needs_human": 2}
    assert names_on_base(bed) == [name for name in names if name[0] == "t"]
    for name in ("bad07", "bad18"):
        assert bed.task(name)["attempts"] == 1
        request = (bed.folder(name) / ".agent" / "revision_request.md").read_text()
        assert f"spoilt by {name}" in request
        assert "spoilt by" in (bed.folder(name) / ".system" / "tests.log").read_text()
    assert len(runs(bed)) <= 16, "far fewer than one for each task"
    twice = {trailer(bed, commit) for commit, times in Counter(runs(bed)).items() if times == 2}
    assert twice == {bed.task("bad07")["id"], bed.task("bad18")["id"]}
    queue = bed.json("queue")
    assert queue["judged"] == 24
    assert queue["runs"] == len(runs(bed))
    assert queue["runs_saved"] == 24 - queue["runs"]
    assert 0.01 < queue["failure_rate"] < 0.1
    assert f"{queue['runs_saved']} runs saved" in bed.cli("queue")


def test_of_two_that_fail_together_only_the_later_comes_back(bed: Bed) -> None:
    bed.make(COPY)
    make_ready(bed, ["a", "first", "b", "second", "c"])
    begin(bed, config(bed, "[ ! -e first ] || [ ! -e second ] || { echo not both; exit 1; }"))
    assert bed.wait_until_idle() == {"done": 4, "needs_human": 1}
    assert names_on_base(bed) == ["a", "first", "b", "c"]
    blamed = bed.task("second")
    request = (bed.folder("second") / ".agent" / "revision_request.md").read_text()
    assert "`main` without it passes them" in request
    assert "not both" in request
    sent_back = next(e["at"] for e in blamed["events"] if e["to_state"] == "needs_human")
    assert bed.task("first")["events"][-1]["at"] <= sent_back, "by then the first had landed"


def test_a_flake_lands_is_counted_and_calls_nobody_back(bed: Bed) -> None:
    bed.make(COPY)
    once = (
        "[ ! -e t ] || ! mkdir {open}/seen-$(git rev-parse HEAD) 2>&- || { echo unlucky; exit 1; }"
    )
    bed.configure(config(bed, once))
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done", "needs_human")
    assert task["outcome"] == "merged"
    assert task["attempts"] == 1
    bed.wait_for_reason("t", "flake")
    assert "flake" in bed.cli("show", "t")
    queue = bed.json("queue")
    assert queue["flakes"] == 1
    (flake,) = queue["last_flakes"]
    assert flake["commit"] == task["merge_commit"]
    assert "unlucky" in Path(flake["log"]).read_text()
    assert "1 flakes" in bed.cli("queue")
    assert flake["log"] in bed.cli("queue")


def test_an_outage_pauses_the_lane_until_resume_and_blames_nobody(bed: Bed) -> None:
    bed.make(COPY)
    bed.configure(config(bed, "test ! -e {open}/outage || { echo no network; exit 1; }"))
    (bed.open / "outage").touch()
    bed.start()
    for name in ("a", "b"):
        bed.drop(name)
    bed.wait(lambda: bool(bed.json("status")["conditions"]), "base red")
    (condition,) = bed.json("status")["conditions"]
    assert condition["name"] == "base_red"
    log = bed.root / condition["reason"].rsplit(" ", 1)[1]
    assert "no network" in log.read_text()
    assert bed.json("queue")["paused"] == condition["reason"]
    assert condition["reason"] in bed.cli("queue")
    bed.wait_for("b", "worker_done")
    paused_at = len(runs(bed))
    bed.cli("reload")  # another look tests nothing while the lane is paused
    bed.cli("resume")
    bed.wait(lambda: len(runs(bed)) > paused_at, "seen again")
    bed.wait(lambda: bool(bed.json("status")["conditions"]), "still red")
    (bed.open / "outage").unlink()
    bed.cli("resume")
    assert bed.wait_until_idle() == {"done": 2}
    assert [bed.task(name)["attempts"] for name in ("a", "b")] == [1, 1]
    assert [bed.task(name)["revision_round"] for name in ("a", "b")] == [0, 0]
    queue = bed.json("queue")
    assert (queue["paused"], queue["judged"]) == (None, 2)


def test_a_base_that_turns_red_under_a_train_blames_nobody(bed: Bed) -> None:
    bed.make(COPY)
    bed.configure(config(bed, f"{HOLD}; test ! -e broken"))
    bed.start()
    bed.drop("a")
    bed.wait(lambda: bool(runs(bed)), "tests run")
    bed.drop("b")
    bed.wait_for("b", "integrating")
    bed.commit({"broken": "x"})
    (bed.open / "go").touch()
    bed.wait(lambda: bool(bed.json("status")["conditions"]), "base red")
    assert [bed.wait_for(name, "worker_done")["attempts"] for name in ("a", "b")] == [1, 1]
    bed.git("rm", "-q", "broken")
    bed.git("commit", "-qm", "Mend it")
    bed.cli("reload")
    assert bed.wait_until_idle() == {"done": 2}
    assert [bed.task(name)["revision_round"] for name in ("a", "b")] == [0, 0]


def test_work_that_mends_a_red_base_lands_with_what_waits_before_it(bed: Bed) -> None:
    bed.make(COPY)
    bed.commit({"value": "bad"})
    make_ready(bed, ["a", "value", "c"], ["x", "good", "y"])
    begin(bed, config(bed, "grep -q good value"))
    assert bed.wait_until_idle() == {"done": 3}
    assert len(runs(bed)) == 1


def test_the_queue_goes_by_priority_and_then_first_come(bed: Bed) -> None:
    bed.make(COPY)
    make_ready(bed, ["a", "b", "urgent", "c", "late"])
    bed.stop()
    with sqlite3.connect(bed.root / ".alluvium" / "alluvium.db") as store:
        store.execute("UPDATE tasks SET priority = 5 WHERE name = 'urgent'")
        store.execute("UPDATE tasks SET priority = -1 WHERE name = 'a'")
    assert [t["name"] for t in bed.json("queue")["waiting"]] == ["urgent", "b", "c", "late", "a"]
    bed.configure(config(bed, ""))
    bed.start()
    assert bed.wait_until_idle() == {"done": 5}
    assert names_on_base(bed) == ["urgent", "b", "c", "late", "a"]


@pytest.mark.parametrize("first_is_good", [True, False])
def test_a_conflict_with_what_has_not_landed_waits_without_a_test(
    bed: Bed, first_is_good: bool
) -> None:
    bed.make('cp "$ALLUVIUM_TASK_DIR"/input/* shared; git add -A; git commit -qm work || true')
    make_ready(bed, ["first", "second"], ["1", "2"])
    begin(bed, config(bed, f"{HOLD}; {'true' if first_is_good else '! grep -qs 1 shared'}"))
    bed.wait_for_reason("second", "waits: conflicts in shared with work that is still to land")
    (waiting,) = bed.json("queue")["waiting"]
    assert waiting["name"] == "second"
    assert bed.task("second")["state"] == "worker_done"
    (bed.open / "go").touch()
    assert bed.wait_until_idle() == {"done": 1, "needs_human": 1}
    landed, sent_back = ("first", "second") if first_is_good else ("second", "first")
    assert names_on_base(bed) == [landed]
    if first_is_good:
        assert len(runs(bed)) == 1, "a conflict needs no test"
        assert "shared" in bed.task(sent_back)["reason"]


def test_nothing_is_tested_twice_when_the_base_moves_and_comes_back(bed: Bed) -> None:
    bed.make(COPY)
    bed.configure(config(bed, ""))
    bed.start()
    (bed.repo / "AGENTS.md").write_text("the owner's edit is in the way")
    bed.drop("AGENTS.md", "the task's")
    bed.wait_for_reason("AGENTS.md", "the landing waits")
    bed.commit({"other": "x"})
    bed.wait(lambda: len(runs(bed)) == 2, "tested on the new base")
    bed.wait_for_reason("AGENTS.md", "the landing waits")
    bed.stop()
    bed.git("reset", "-q", "--hard", "HEAD~1")
    bed.start()
    assert bed.wait_for("AGENTS.md", "done")["outcome"] == "merged"
    assert len(runs(bed)) == 2, "the first result still counts"
    assert bed.git("rev-parse", "main") == runs(bed)[0]


@pytest.mark.parametrize("word", [["answer", "t", "the tests were at fault"], ["retry", "t"]])
def test_red_results_are_believed_until_a_person_has_had_a_hand_in_it(
    bed: Bed, word: list[str]
) -> None:
    bed.make(COPY)
    test = "test ! -e t || test -e {open}/mended"
    bed.configure(config(bed, test).replace("rounds = 0", "rounds = 2"))
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "needs_human", "done")
    assert (task["state"], task["attempts"]) == ("needs_human", 3)
    assert len(runs(bed)) == 3, "twice it and once the base: revisions that change nothing are not"
    (bed.open / "mended").touch()
    bed.cli(*word)
    assert bed.wait_for("t", "done", "needs_human", "failed")["outcome"] == "merged"
    assert len(runs(bed)) == 4


def test_strict_tests_every_commit(bed: Bed) -> None:
    bed.make(COPY)
    make_ready(bed, ["a", "b", "c", "d"])
    begin(bed, config(bed, "", "strict = true"))
    assert bed.wait_until_idle() == {"done": 4}
    landed = bed.git("log", "-4", "--format=%H", "main").split()
    assert sorted(runs(bed)) == sorted(landed)


def test_what_runs_is_told_by_the_configuration_alone(bed: Bed) -> None:
    """What tests do when they run is in the tree, of course: `protected_paths` guards that."""
    bed.make(
        """
        cp "$ALLUVIUM_TASK_DIR"/input/* .
        echo '[integration]
        run_tests = ["true"]' | tee config.toml .alluvium.toml
        mkdir .alluvium; cp config.toml .alluvium/
        printf 'all test:\\n\\ttrue\\n' > Makefile
        git config alias.rev-parse '!true'; git config core.hooksPath .
        git add -A; git commit -qm work || true
        """
    )
    bed.configure(config(bed, "echo the owner asks; exit $(test -e t && echo 1 || echo 0)"))
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "needs_human", "done")["state"] == "needs_human"
    assert "the owner asks" in (bed.folder("t") / ".system" / "tests.log").read_text()
    assert len(runs(bed)) == 3


def test_many_bad_tasks_with_two_slots_end_with_exactly_the_good_on_the_base(bed: Bed) -> None:
    bed.make(COPY)
    names = [f"{'bad' if number % 3 == 0 else 't'}{number:02}" for number in range(15)]
    make_ready(bed, names)
    test = "! ls | grep -q ^bad"
    begin(bed, config(bed, test).replace("parallel_tests = 1", "parallel_tests = 2"))
    assert bed.wait_until_idle() == {"done": 10, "needs_human": 5}
    assert names_on_base(bed) == [name for name in names if name[0] == "t"]
    slots = bed.root / ".alluvium" / "slots"
    bed.wait(lambda: not list(slots.iterdir()), "the slots are thrown away")
    found = subprocess.run(
        ["git", "fsck", "--connectivity-only"], cwd=bed.repo, capture_output=True, check=False
    )
    assert found.returncode == 0
