"""What agents without a box write into the folders of other tasks.

It is found, told to a person, and not run on.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bed import Bed

from alluvium_like.store.reader import StoreReader

pytestmark = pytest.mark.unboxed
READY = 'echo x > "$ALLUVIUM_AGENT_DIR/outputs/ready"'
HELD_UP = f'{READY}; while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done'
WORK = 'echo "$name" > "$ALLUVIUM_TASK_ID.txt"'
FORGERIES: Mapping[str, tuple[str, str]] = {
    "rewritten": ('echo forged! > "$V/input/$v"', "input/rewritten"),
    "like-before": (
        'touch -r "$V/input/$v" ref; printf "forget text" > "$V/input/$v"; '
        'touch -r ref "$V/input/$v"; rm ref',
        "input/like-before",
    ),
    "added-to": ('echo more > "$V/input/AGENTS.md"', "input/AGENTS.md"),
    "replaced": (
        'mv "$V/input" "$V/was"; mkdir "$V/input"; cp -a "$V/was/$v" "$V/input"',
        "input/replaced",
    ),
    "given-results": (
        'mkdir "$V/.agent"; echo \'{"status": "failed"}\' > "$V/.agent/result.json"',
        ".agent (renamed",
    ),
    "robbed": ('rm -rf "$V/input"', "input"),
}


def agent(deeds: str, otherwise: str = ":") -> str:
    """The task called `bad` waits for leave and does its deeds; all others do `otherwise`."""
    return f"""
    name="$(ls "$ALLUVIUM_TASK_DIR/input" | tail -n 1)"
    {WORK}
    if [ "$name" = bad ]; then
        {HELD_UP}
        {deeds}
    else
        {otherwise}
    fi
    """


def to(victim: str, deed: str) -> str:
    return f'v={victim}; V="$(echo "$ALLUVIUM_TASK_DIR"/../*-{victim}-*)"; {deed}'


def findings(bed: Bed) -> list[tuple[str, str]]:
    done = bed.run("-C", str(bed.root), "verify", "--json")
    return [(f["kind"], f["subject"]) for f in json.loads(done.stdout)["findings"]]


def let(bed: Bed, name: str) -> None:
    bed.release(name)


def wait_until_ready(bed: Bed, name: str) -> None:
    bed.wait(lambda: any(bed.root.glob(f"tasks/*-{name}-*/.agent/outputs/ready")), name)


def drop(bed: Bed, *names: str) -> None:
    """Drop items, and return when all of them are tasks."""
    for name in names:
        bed.drop(name, "honest text")

    def known() -> bool:
        with StoreReader(bed.root / ".alluvium" / "alluvium.db") as store:
            return set(names) <= {task.name for task in store.tasks()}

    bed.wait(known, "claimed")


def check_held(task: Any, what: str, suspect: str) -> None:
    assert task["state"] == "needs_human", task
    assert f"somebody changed {what}" in task["reason"]
    assert suspect in task["reason"]
    assert "'retry' takes it as it is now" in task["reason"]


def suspects_named(bed: Bed) -> list[str]:
    """Return the tasks that the lane is held because of, of those that had a turn."""
    (escape,) = [c for c in bed.json("status")["conditions"] if c["name"] == "escape"]
    named = [task["id"] for task in bed.json("list") if f"{task['id']} ran" in escape["reason"]]
    assert "input/rewritten" in escape["reason"]
    return named


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """One agent has done all of it to tasks that wait behind it; now they have had their turn."""
    bed = Bed(tmp_path_factory.mktemp("forged") / "ws", unboxed=True)
    deeds = "\n".join(to(victim, deed) for victim, (deed, _) in FORGERIES.items())
    bed.make(agent(deeds), config="[safety]\nmax_workers = 1")
    try:
        bed.start()
        drop(bed, "bad")
        wait_until_ready(bed, "bad")
        drop(bed, *FORGERIES, "untouched")
        let(bed, "bad")
        bed.wait_for("untouched", "worker_done")
        assert bed.task("bad")["id"] in suspects_named(bed)
        bed.cli("resume")
        bed.wait_until_idle()
        yield bed
    finally:
        bed.stop()


def test_nothing_is_started_on_what_another_agent_has_forged(forged: Bed) -> None:
    suspect = forged.task("bad")
    for victim, (_, what) in FORGERIES.items():
        check_held(forged.task(victim), what, suspect["id"])
        assert not list(forged.folder(victim).glob(".system/attempts/*/stdout.log"))
    assert suspect["state"] == "needs_human"
    assert "input/rewritten" in suspect["reason"]
    assert forged.task("untouched")["outcome"] == "merged"


def test_what_a_person_knows_of_is_not_told_again_and_retry_takes_it_as_it_is(forged: Bed) -> None:
    robbed = forged.task("robbed")["id"]
    assert [subject for _, subject in findings(forged)] == [robbed]  # has no input/ at all
    assert "its folder was removed" in forged.cli("retry", robbed, code=1)
    for victim in ("rewritten", "given-results"):
        forged.cli("retry", forged.task(victim)["id"])
        assert forged.wait_for(victim, "done", "needs_human", "failed")["outcome"] == "merged"


def test_work_on_input_that_changed_under_its_agent_does_not_land(bed: Bed) -> None:
    deeds = to("good", 'echo forged > "$V/input/good"; touch "$V/.agent/go"')
    bed.make(agent(deeds, otherwise=HELD_UP), config="[safety]\nmax_workers = 2")
    bed.start()
    drop(bed, "bad", "good")
    wait_until_ready(bed, "bad")
    wait_until_ready(bed, "good")
    let(bed, "bad")
    task = bed.wait_for("good", "needs_human", "done", "failed")
    check_held(task, "input/good", bed.task("bad")["id"])
    assert "and its own agent" in task["reason"]
    bed.cli("answer", task["id"], "It is all right.")
    assert bed.wait_for("good", "done", "needs_human")["outcome"] == "merged"


def test_a_forgery_is_named_by_verify_and_found_after_a_kill(bed: Bed) -> None:
    deeds = to("good", f'echo forged > "$V/input/good"; rm "$ALLUVIUM_AGENT_DIR/go"; {HELD_UP}')
    bed.make(agent(deeds), config="[safety]\nmax_workers = 1")
    bed.start()
    drop(bed, "bad")
    wait_until_ready(bed, "bad")
    drop(bed, "good")
    assert findings(bed) == []
    let(bed, "bad")
    good = bed.folder("good") / "input" / "good"
    bed.wait(lambda: good.read_text() == "forged\n", "forged")
    bed.kill()
    suspect = bed.task("bad")["id"]
    found = findings(bed)
    bed.cli("cancel", suspect)
    bed.start()  # whatever was found: it ends the agent that outlived the kill
    assert found == [("input", bed.task("good")["id"])]
    check_held(bed.wait_for("good", "needs_human", "done", "failed"), "input/good", suspect)


def test_what_nobody_but_its_own_agent_can_have_done_is_taken_as_it_is(bed: Bed) -> None:
    """Programs that were dropped leave their caches; nobody is asked about that."""
    cache = "$ALLUVIUM_TASK_DIR/input/cache"
    bed.make(
        f'[ -e "{cache}" ] && echo x > x && exit 0; mkdir "{cache}"; touch "{cache}/x"; exit 1',
        config="[agent]\nretries = 1",
    )
    bed.start()
    drop(bed, "t")
    task = bed.wait_for("t", "done", "needs_human", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 2)


def test_what_changed_while_no_agent_ran_is_told_as_such_and_not_in_a_restored_workspace(
    bed: Bed, tmp_path: Path
) -> None:
    bed.make("exit 0")
    bed.start()
    bed.cli("pause")
    drop(bed, "t")
    bed.cli("backup", "--with-repo", str(tmp_path / "b.tar.gz"))
    (bed.folder("t") / "input" / "t").write_text("second thoughts")
    bed.cli("resume")
    assert "no agent ran then" in bed.wait_for("t", "needs_human", "done")["reason"]
    bed.stop()
    (tmp_path / "other").mkdir()
    other = Bed(tmp_path / "other" / "ws", unboxed=True)
    other.run("restore", str(tmp_path / "b.tar.gz"), str(other.root))
    with StoreReader(other.root / ".alluvium" / "alluvium.db") as store:
        assert store.find("t").input_seal == ""
    try:
        other.cli("resume")
        other.start()
        assert other.wait_for("t", "done", "needs_human")["outcome"] == "noop"
    finally:
        other.stop()
