"""The merge queue disturbed: what others do while tests run, and what is seen of them meanwhile."""

from pathlib import Path

import pytest
from bed import Bed, Witness
from test_queue import COPY, HOLD, config, make_ready, names_on_base, runs

# A grandchild in a session of its own, that does not end when it is asked to.
STUBBORN = """
setsid setsid sh -c 'trap "" TERM; echo $$ >> {open}/children; while :; do sleep 0.05; done' &
while ! [ -s {open}/children ]; do sleep 0.02; done
"""
HELD = f"{STUBBORN}echo begun\n{HOLD}"


def children(bed: Bed, number: int = 1) -> list[Witness]:
    """Wait until so many tests have begun, and know their grandchildren from then on."""
    path = bed.open / "children"
    bed.wait(lambda: path.exists() and path.read_text().count("\n") >= number, "tests run")
    found: list[Witness] = []
    for line in path.read_text().split()[:number]:
        found.append(Witness.told(int(line), str(bed.open.parent), found))
    return found


def release(bed: Bed) -> None:
    (bed.open / "go").touch()


def begin_held(bed: Bed, names: list[str]) -> list[Witness]:
    """Make tasks ready and let their tests begin; they wait for `release`."""
    make_ready(bed, names)
    bed.configure(config(bed, HELD))
    bed.cli("reload")
    return children(bed)


def no_slots(bed: Bed) -> bool:
    return not list((bed.root / ".alluvium" / "slots").iterdir())


def test_the_queue_is_seen_as_it_is_at_every_moment(bed: Bed) -> None:
    bed.make(COPY)
    empty = bed.json("queue")
    assert (empty["train"], empty["testing"], empty["waiting"]) == ([], [], [])
    assert "0 tasks judged" in bed.cli("queue")
    begin_held(bed, ["a", "b", "c"])
    queue = bed.json("queue")
    assert [(car["position"], car["name"]) for car in queue["train"]] == [
        *((1, "a"), (2, "b"), (3, "c"))
    ]
    assert [car["testing"] for car in queue["train"]] == [False, False, True]
    (trial,) = queue["testing"]
    assert trial["commit"] == queue["train"][2]["commit"] == runs(bed)[0]
    assert trial["tasks"] == [bed.task(name)["id"] for name in ("a", "b", "c")]
    bed.wait(lambda: "begun" in Path(trial["log"]).read_text(), "output is streamed")
    text = bed.cli("queue")
    assert trial["log"] in text
    assert f"2 {bed.task('b')['id']}" in text
    assert f"3 {bed.task('c')['id']}  tested with all before it" in text

    bed.kill()
    dead = bed.json("queue")
    assert dead["testing"] == [], "nothing runs while no daemon does"
    release(bed)
    bed.start()
    assert bed.wait_until_idle() == {"done": 3}
    bed.wait(lambda: bed.json("queue")["judged"] == 3, "judged")
    for _ in range(2):
        after = bed.json("queue")
        assert [after[key] for key in ("train", "testing", "waiting", "landing")] == [[]] * 4
        assert (after["judged"], after["runs"]) == (3, 1)
        bed.stop()


@pytest.mark.parametrize("how", ["stop", "kill", "kill twice"])
def test_a_daemon_that_ends_during_tests_leaves_none_and_lands_everything_once(
    bed: Bed, how: str
) -> None:
    bed.make(COPY)
    (child,) = begin_held(bed, ["a", "b", "c"])
    if how == "stop":
        bed.stop()
        assert not child.alive()
    else:
        bed.kill()
    (bed.open / "children").unlink()
    bed.start()
    assert not child.alive()
    if how == "kill twice":
        (child,) = children(bed)
        bed.kill()
        bed.start()
        assert not child.alive()
    release(bed)
    assert bed.wait_until_idle() == {"done": 3}
    assert names_on_base(bed) == ["a", "b", "c"]
    assert len(set(runs(bed))) == 1, "the same train is the same commits"
    assert {task["attempts"] for task in bed.json("list")} == {1}


def test_a_base_that_moves_during_tests_calls_no_agent_and_leaves_no_process(bed: Bed) -> None:
    bed.make(COPY)
    (child,) = begin_held(bed, ["a", "b"])
    pushed = bed.commit({"owner.txt": "mine"})
    bed.cli("reload")  # which makes the lane look
    bed.wait(lambda: len(runs(bed)) == 2, "tested again")
    assert child.ends_within(20)
    release(bed)
    assert bed.wait_until_idle() == {"done": 2}
    assert {task["attempts"] for task in bed.json("list")} == {1}
    assert bed.git("rev-parse", "main~2") == pushed
    assert bed.git("rev-parse", "main") == runs(bed)[1]


@pytest.mark.parametrize("which", ["a", "b", "c"])
def test_a_task_that_is_cancelled_under_test_does_not_land_and_all_others_do(
    bed: Bed, which: str
) -> None:
    bed.make(COPY)
    (child,) = begin_held(bed, ["a", "b", "c"])
    bed.cli("cancel", bed.task(which)["id"])
    bed.wait(lambda: len(runs(bed)) == 2, "tested without it")
    assert child.ends_within(20)
    release(bed)
    assert bed.wait_until_idle() == {"done": 2, "cancelled": 1}
    assert names_on_base(bed) == [name for name in "abc" if name != which]
    bed.cli("retry", bed.task(which)["id"])
    assert bed.wait_until_idle() == {"done": 3}


def test_when_all_are_cancelled_nothing_runs_any_more(bed: Bed) -> None:
    bed.make(COPY)
    (child,) = begin_held(bed, ["a", "b"])
    before = bed.git("rev-parse", "main")
    for name in ("a", "b"):
        bed.cli("cancel", bed.task(name)["id"])
    assert child.ends_within(20)
    bed.wait(lambda: no_slots(bed), "the slot is thrown away")
    queue = bed.json("queue")
    bed.wait(lambda: bed.json("queue")["testing"] == [], "nothing is tested")
    assert queue["train"] == []
    assert bed.git("rev-parse", "main") == before


def test_other_tests_make_the_old_ones_stop_and_their_results_do_not_count(bed: Bed) -> None:
    """The old ones would never end, and the commits under test stay the same."""
    bed.make(COPY)
    (child,) = begin_held(bed, ["a", "b"])
    bed.configure(config(bed, "[ ! -e b ] || { echo b is refused now; exit 1; }"))
    bed.cli("reload")
    assert bed.wait_until_idle() == {"done": 1, "needs_human": 1}
    assert child.ends_within(20)
    assert names_on_base(bed) == ["a"]
    assert "b is refused now" in (bed.folder("b") / ".agent" / "revision_request.md").read_text()


def test_results_of_other_tests_do_not_count_even_when_they_were_green(bed: Bed) -> None:
    bed.make(COPY)
    bed.configure(config(bed, "true"))
    bed.start()
    (bed.repo / "AGENTS.md").write_text("the owner's edit is in the way")
    bed.drop("AGENTS.md", "the task's")
    bed.wait_for_reason("AGENTS.md", "the landing waits")
    assert len(runs(bed)) == 1
    bed.configure(config(bed, "test ! -e t"))
    bed.cli("reload")
    bed.drop("t")
    assert bed.wait_for("t", "needs_human", "done")["state"] == "needs_human"
    bed.git("checkout", "-q", "AGENTS.md")
    assert bed.wait_for("AGENTS.md", "done")["outcome"] == "merged"


def test_nothing_lands_while_the_integrator_is_disabled(bed: Bed) -> None:
    bed.make(COPY)
    bed.start()
    (bed.repo / "AGENTS.md").write_text("the owner's edit is in the way")
    bed.drop("AGENTS.md", "the task's")
    bed.wait_for_reason("AGENTS.md", "the landing waits")
    before = bed.git("rev-parse", "main")
    bed.configure("[integration]\nenabled = false")
    bed.cli("reload")
    bed.git("checkout", "-q", "AGENTS.md")
    bed.drop("other")
    bed.wait_for("other", "worker_done")
    bed.cli("stop")
    assert bed.git("rev-parse", "main") == before
    bed.configure()
    bed.start()
    assert bed.wait_until_idle() == {"done": 2}


def test_each_named_test_has_its_own_deadline_and_all_output_is_kept(bed: Bed) -> None:
    bed.make(COPY)
    bed.configure(
        f"""
        [integration]
        max_revision_rounds = 0
        [[integration.run_tests]]
        name = "loud"
        command = "seq 200000; printf 'no newline \\\\377'"
        timeout_seconds = 60
        [[integration.run_tests]]
        name = "slow"
        command = '''{STUBBORN.format(open=bed.open)} [ ! -e t ] || {{ echo waiting; sleep 60; }}'''
        timeout_seconds = 3
        """
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "needs_human", "done")
    assert task["state"] == "needs_human"
    assert "did not end within 3 s" in task["reason"]
    output = (bed.folder("t") / ".system" / "tests.log").read_bytes()
    assert b"\n200000\n" in output
    assert b"no newline \xff" in output
    assert b"\nwaiting\n" in output
    assert "waiting" in (bed.folder("t") / ".agent" / "revision_request.md").read_text()
    assert not any(child.alive() for child in _alive_or_gone(bed))


def _alive_or_gone(bed: Bed) -> list[Witness]:
    found: list[Witness] = []
    for line in (bed.open / "children").read_text().split():
        try:
            found.append(Witness.told(int(line), str(bed.open.parent), found))
        except ProcessLookupError:
            continue
    return found


def test_what_a_test_says_is_followed_while_it_runs(bed: Bed) -> None:
    bed.make(COPY)
    begin_held(bed, ["a", "b"])
    follower = bed.spawn("log", "-f", bed.task("a")["id"])
    try:
        assert follower.stdout is not None
        lines = iter(follower.stdout.readline, "")
        assert any(line == "begun\n" for line in lines)
        assert bed.task("a")["state"] == "integrating", "the test still runs"
        release(bed)
        assert follower.wait(timeout=30) == 0
    finally:
        follower.kill()
        follower.communicate()
    assert bed.wait_until_idle() == {"done": 2}


def test_a_lost_integration_repository_is_told_and_comes_back(bed: Bed) -> None:
    """Its folder goes away under a train and comes back: that is told, and all goes on."""
    bed.make(COPY)
    begin_held(bed, ["a", "b"])
    folder = bed.root / ".alluvium" / "integration.git" / "objects"
    folder.rename(bed.root / "away")
    release(bed)
    bed.wait(lambda: bed.json("status")["degraded"], "it is told")
    (told,) = bed.json("status")["degraded"]
    assert told["name"] == "folders"
    assert str(folder) in told["reason"]
    (bed.root / "away").rename(folder)
    assert bed.wait_until_idle() == {"done": 2}
    bed.wait(lambda: bed.json("status")["degraded"] == [], "told no more")
    assert {task["attempts"] for task in bed.json("list")} == {1}


def test_tests_that_are_given_up_are_over_before_others_take_their_place(bed: Bed) -> None:
    """The last of eight is held while the fourth fails: its processes take their time to end."""
    bed.make(COPY)
    make_ready(bed, [f"t{number}" for number in range(8)])
    test = """
    mkdir -p {open}/live
    me=$(mktemp -d {open}/live/XXXXXX)
    ls {open}/live | wc -l >> {open}/live-counts
    trap 'sleep 0.5; rmdir $me; exit 1' TERM
    if [ -e t7 ]; then HOLD; fi
    while [ -e t3 ] && [ $(wc -l < {open}/live-counts) -lt 2 ]; do sleep 0.02; done
    rmdir $me
    test ! -e t3
    """.replace("HOLD", HOLD)
    bed.configure(config(bed, test).replace("parallel_tests = 1", "parallel_tests = 2"))
    bed.cli("reload")
    bed.wait_for("t3", "needs_human", "done")
    release(bed)
    assert bed.wait_until_idle() == {"done": 7, "needs_human": 1}
    assert max(int(line) for line in (bed.open / "live-counts").read_text().split()) == 2
