"""Budgets are hard: of a task, of an agent's day, of everybody's day; and what was used is told."""

import math

from agent_words import (
    AGENT,
    attempts,
    drop_for,
    outputs,
    parked,
    runs,
    store,
    task,
    wait_until_parked,
    work_of,
)
from bed import Bed

from alluvium_like.lifecycle import Ending

PI_REQUEST = (
    '{"type":"message_end","message":{"role":"assistant","model":"other","usage":{"input":10}}}'
)
GREEDY = """
init s1 m
if [ $run = 1 ]; then
    uses 600; work one; wait_for go; uses 600
    exec sleep 600
fi
uses 500; work two; result 0 500
"""


def let(bed: Bed, name: str) -> None:
    """Let an agent go on that waits for it."""
    bed.wait_for_file(outputs(bed, name) / "runs")
    (outputs(bed, name) / "go").touch()


def limit(bed: Bed, agent: str, more: str = "") -> None:
    """Set other limits, with the daemon up or down."""
    bed.configure(
        f"""
        [agent]
        preset = "claude"
        {agent}
        [agents.pi]
        preset = "pi"
        command = ["{bed.root.parent}/agent.sh"]
        {agent}
        [prices.m]
        input = 10
        {more}
        """
    )
    if bed.json("status")["daemon"]["running"]:
        bed.cli("reload")


def question(bed: Bed, name: str) -> str:
    """Wait until a person is asked about a task; return the question."""
    asked: str = bed.wait_for(name, "needs_human", "failed", "done")["checkpoints"][-1]["question"]
    assert attempts(bed, name)[-1].ending == Ending.BUDGET
    return asked


def test_a_task_is_stopped_at_its_budget_and_a_person_may_allow_as_much_again(bed: Bed) -> None:
    bed.make(AGENT)
    limit(bed, "max_tokens = 1000")
    bed.start()
    bed.drop("greedy", GREEDY)
    bed.wait_for("greedy", "running")
    let(bed, "greedy")
    asked = question(bed, "greedy")
    assert (
        "default used 1_200 of 1_000 tokens for the task; an answer allows as much again" in asked
    )
    assert work_of(bed, "greedy") == "one", "what it did is kept"
    assert (task(bed, "greedy").failures, len(runs(bed, "greedy"))) == (0, 1)

    bed.cli("answer", task(bed, "greedy").id, "go on")
    assert bed.wait_for("greedy", "done", "needs_human", "failed")["outcome"] == "merged"
    assert "--resume s1" in runs(bed, "greedy")[1]
    assert bed.base_file(f"{task(bed, 'greedy').id}.txt") == "one\ntwo"

    # What it costs is estimated where prices are known, and reported where the program knows it.
    limit(bed, "max_cost = 0.01")
    bed.drop("priced", GREEDY)
    bed.wait_for("priced", "running")
    let(bed, "priced")
    assert "default used 0.01 of 0.01 US dollars for the task" in question(bed, "priced")
    (priced,) = attempts(bed, "priced")
    assert (priced.cost, priced.cost_source) == (0.012, "estimated")

    # It was through before anybody could stop it: what it did is not thrown away.
    bed.drop("reported", "init s2 m; work done; result 0.5 100; sleep 1")
    assert bed.wait_for("reported", "done", "needs_human", "failed")["outcome"] == "merged"
    (reported,) = attempts(bed, "reported")
    assert (reported.cost, reported.cost_source, reported.model) == (0.5, "reported", "m")

    bed.drop("told-later", "init s3 other; uses 10; work done; result 0.001 10")
    assert bed.wait_for("told-later", "done", "needs_human", "failed")["outcome"] == "merged"
    drop_for(bed, "pi", "unknown", f"echo '{PI_REQUEST}'; exec sleep 600")
    assert "nobody knows what this model costs; see [prices]" in question(bed, "unknown")

    # The next attempt of a task that has used it all is not even started.
    limit(bed, "max_cost = 0.01\nretries = 2".replace("\n", "\n        "))
    bed.drop("failing", "init s4 m; uses 100; result 0.5 100; exit 1")
    assert "default used 0.50 of 0.01 US dollars for the task" in question(bed, "failing")
    assert [each.exit_code for each in attempts(bed, "failing")] == [1, None]

    usage = {used["name"]: used for used in bed.json("usage", "--by", "task")}
    assert usage[task(bed, "greedy").id] == {
        "name": task(bed, "greedy").id,
        "attempts": 2,
        "seconds": usage[task(bed, "greedy").id]["seconds"],
        "input_tokens": 1700,
        "cached_tokens": 0,
        "output_tokens": 0,
        "cost": 0.017,
        "estimated": 0.017,
        "unknown": 0,
    }
    assert usage[task(bed, "reported").id]["estimated"] == 0
    assert usage[task(bed, "unknown").id]["unknown"] == 1
    total = usage["total"]
    assert math.isclose(total["cost"], sum(u["cost"] for u in usage.values()) / 2, abs_tol=1e-5)
    for by in ("agent", "day"):
        assert bed.json("usage", "--by", by, "--days", "1")[-1] == {**total, "seconds": (
            bed.json("usage", "--by", by, "--days", "1")[-1]["seconds"]
        )}  # fmt: skip
    assert [used["name"] for used in bed.json("usage")] == ["default", "pi", "total"]
    assert "of it estimated; 1 attempts of unknown cost" in bed.cli("usage", "--by", "agent")


def test_a_day_has_its_budget_and_two_at_once_cannot_both_take_what_is_left(bed: Bed) -> None:
    bed.make(AGENT)
    limit(bed, "max_tokens_per_day = 1000")
    bed.start()
    together = """
        init s m
        if [ $run = 1 ]; then
            uses 450; wait_for go; uses 200; work one; exec sleep 600
        fi
        work two; result 0 1
    """
    for name in ("one", "two"):
        bed.drop(name, together)
    bed.wait(lambda: len(list(bed.root.glob("tasks/*/.agent/outputs/runs"))) == 2, "both run")

    def stored() -> bool:
        with store(bed) as reader:
            return sum(row["input_tokens"] or 0 for row in reader.usage("")) >= 900

    bed.wait(stored, "both told")
    let(bed, "one")
    assert "default used 1_100 of 1_000 tokens today (UTC)" in question(bed, "one")
    let(bed, "two")
    assert "of 1_000 tokens today (UTC)" in question(bed, "two")

    bed.drop("next", "init s m; uses 10; work done; result 0 10")
    row = wait_until_parked(bed, "default")
    assert (row.outcome, row.until[10:]) == (Ending.BUDGET, "T00:00:00.000Z")
    bed.wait_for("next", "queued")
    assert attempts(bed, "next") == []
    for shown in ("status", "agents"):
        assert f"until {row.until}: default used 1_" in bed.cli(shown)
    bed.cli("resume")  # lets it look again; a budget is no outage
    assert wait_until_parked(bed, "default").until == row.until

    limit(bed, "", "[budget]\n        max_tokens_per_day = 1300")
    bed.wait(lambda: "all agents" in parked(bed)["default"].reason if parked(bed) else False)
    limit(bed, "", "[budget]\n        max_tokens_per_day = 5000")
    assert bed.wait_for("next", "done", "failed")["outcome"] == "merged"
    assert parked(bed) == {}
    for name in ("one", "two"):
        assert work_of(bed, name) == "one"
        bed.cli("answer", task(bed, name).id, "go on")
        assert bed.wait_for(name, "done", "failed")["outcome"] == "merged"


def test_who_takes_over_has_its_own_limit_of_a_task(bed: Bed) -> None:
    bed.make(
        AGENT,
        f"""
        [agent]
        preset = "claude"
        fallback = "small"
        max_tokens = 1000
        [agents.small]
        preset = "claude"
        command = ["{bed.root.parent}/agent.sh"]
        max_tokens = 500
        [budget]
        max_tokens = 1300
        """,
    )
    bed.start()
    bed.drop(
        "task",
        """
        init s m
        if [ $run = 1 ]; then
            uses 900; sleep 0.5; printf '{"type":"result","subtype":"success","is_error":true,'
            printf '"result":"You have hit your session limit"}\\n'; exit 1
        fi
        uses 300; wait_for go; uses 150; exec sleep 600
        """,
    )
    wait_until_parked(bed, "default")
    bed.wait_for("task", "running")
    let(bed, "task")
    asked = question(bed, "task")
    assert "all agents together used 1_350 of 1_300 tokens for the task" in asked
    assert [each.agent for each in attempts(bed, "task")] == ["default", "small"]
