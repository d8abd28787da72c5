"""Agents that cannot work: they wait, no task pays for it, others go on."""

import os
from datetime import datetime, timedelta

from agent_words import (
    AGENT,
    WORKS,
    attempts,
    choose,
    outcomes,
    outputs,
    parked,
    runs,
    task,
    transcript,
    wait_until_parked,
    work_of,
)
from bed import Bed

from alluvium_like.clock import utc_text

HIT = "You\N{RIGHT SINGLE QUOTATION MARK}ve hit your usage limit"


def profile(bed: Bed, more: str = "") -> str:
    """Return the keys of an agent that runs the script."""
    return f'preset = "codex"\ncommand = ["{bed.root.parent}/agent.sh"]\n{more}\n'


def test_a_used_up_quota_parks_its_agent_until_the_reset_and_costs_the_task_nothing(
    bed: Bed,
) -> None:
    """Through a kill -9 of the daemon, and until a person lets it try again."""
    bed.make(AGENT, f'[agent]\npreset = "codex"\n[agents.other]\n{profile(bed)}')
    reset = datetime.now().astimezone().replace(second=0, microsecond=0) + timedelta(days=2)
    told = f"{reset:%b} {reset.day}th, {reset:%Y} {reset.hour % 12 or 12}:{reset:%M %p}"
    bed.start()
    bed.drop(
        "first",
        f"""
        if [ $run = 1 ]; then
            begin thread-1; say hello; work one
            trouble "{HIT}. Upgrade to Pro or try again at {told}."
        fi
        begin thread-1; say again; work two; through 30 3
        """,
    )
    row = wait_until_parked(bed, "default")
    assert row.outcome == "quota"
    assert row.until == utc_text(reset + timedelta(seconds=60)), "the minute is told"
    bed.wait_for("first", "queued")
    now = task(bed, "first")
    assert (now.failures, now.revision_round, now.attempt) == (0, 0, 1)
    assert work_of(bed, "first") == "one", "what it did is kept"

    bed.kill()
    bed.start()
    bed.drop("second", WORKS)
    bed.wait_for("second", "queued")
    choose(bed, "second", "other")
    bed.drop("third", WORKS)
    bed.wait_for("second", "done")
    bed.wait_for("third", "queued")
    assert [len(attempts(bed, name)) for name in ("first", "third")] == [1, 0]

    for shown in (bed.cli("status"), bed.cli("agents")):
        assert f"until {row.until}: {HIT}" in shown
    assert f"refuses to go on for now: {HIT}" in bed.cli("list")
    (said,) = bed.json("status")["parked"]
    assert (said["agent"], said["outcome"], said["until"]) == ("default", "quota", row.until)
    told_of = {agent["name"]: agent["parked"] for agent in bed.json("agents")}
    assert told_of["other"] is None
    assert told_of["default"]["until"] == row.until

    bed.cli("resume")
    assert bed.wait_for("first", "done")["outcome"] == "merged"
    bed.wait_for("third", "done")
    assert outcomes(bed, "first") == [("default", "quota"), ("default", "ok")]
    assert parked(bed) == {}
    first = task(bed, "first")
    assert bed.base_file(f"{first.id}.txt") == "one\ntwo"
    assert "resume" in runs(bed, "first")[1].split()
    assert "thread-1" in runs(bed, "first")[1].split()
    assert "cut off before it was through" in (outputs(bed, "first") / "prompt-2").read_text()
    assert [told["kind"] for told in transcript(bed, "first")] == [
        *("session", "message", "limit", "end")
    ]


def test_what_cannot_log_in_or_reach_anybody_is_parked_and_its_fallback_takes_over(
    bed: Bed,
) -> None:
    spare = profile(bed, 'fallback = "last"')
    bed.make(
        AGENT,
        f"""
        [agent]
        preset = "codex"
        fallback = "spare"
        [agents.spare]
        {spare.replace(chr(10), chr(10) + " " * 8)}
        [agents.last]
        {profile(bed).replace(chr(10), chr(10) + " " * 8)}
        """,
    )
    bed.start()
    bed.drop(
        "task",
        """
        case $run in
            1) begin t; trouble "unexpected status 401 Unauthorized: Incorrect API key provided";;
            2) begin t; trouble "Connection failed: error sending request";;
            *) begin t; say done; work done; through 10 1;;
        esac
        """,
    )
    assert bed.wait_for("task", "done")["outcome"] == "merged"
    assert outcomes(bed, "task") == [("default", "auth"), ("spare", "unreachable"), ("last", "ok")]
    assert {name: row.outcome for name, row in parked(bed).items()} == {
        "default": "auth",
        "spare": "unreachable",
    }
    assert task(bed, "task").failures == 0
    assert "could not log in" in bed.cli("show", task(bed, "task").id)
    assert [f"parked      {name} until" in bed.cli("status") for name in ("default", "last")] == [
        *(True, False)
    ]
    bed.drop("more", WORKS)
    bed.wait_for("more", "done")
    assert outcomes(bed, "more") == [("last", "ok")], "it is chosen at once"


def test_a_task_that_its_provider_refuses_while_others_go_well_holds_nobody_up_for_ever(
    bed: Bed,
) -> None:
    """A person is asked about it in the end, and nothing was counted against anybody."""
    bed.make(AGENT, '[agent]\npreset = "codex"\n[safety]\nmax_workers = 1')
    bed.start()
    bed.cli("pause")
    bed.drop("poison", 'begin t; trouble "usage limit reached, try again in 1s"')
    bed.wait_for("poison", "queued")
    others = [f"other-{number}" for number in range(6)]
    for name in others:
        bed.drop(name, WORKS)
        bed.wait_for(name, "queued")
    bed.cli("resume")
    assert "5 times in a row" in bed.wait_for("poison", "needs_human", "failed")["reason"]
    for name in others:
        assert bed.wait_for(name, "done", "failed")["outcome"] == "merged", name
    refused = attempts(bed, "poison")
    assert [each.outcome for each in refused] == ["quota"] * 5
    assert task(bed, "poison").failures == 0


def test_what_a_run_complained_of_when_somebody_cancelled_it_parks_nobody(bed: Bed) -> None:
    bed.make(AGENT, '[agent]\npreset = "codex"')
    bed.start()
    bed.drop(
        "cancelled",
        """
        begin t; printf '{"type":"error","message":"Reconnecting... 401 Unauthorized"}\\n'
        echo told > "$outputs/told"; exec sleep 600
        """,
    )
    bed.wait_for("cancelled", "running")
    bed.wait_for_file(outputs(bed, "cancelled") / "told")
    bed.cli("cancel", task(bed, "cancelled").id)
    bed.wait_for("cancelled", "cancelled")
    bed.drop("next", WORKS)
    assert bed.wait_for("next", "done", "failed")["outcome"] == "merged"
    assert parked(bed) == {}


def test_a_burst_that_leaves_too_little_time_is_nothing_that_the_task_pays_for(bed: Bed) -> None:
    bed.make(AGENT, '[agent]\npreset = "codex"\ntimeout_seconds = 12\nretries = 0')
    bed.start()
    bed.drop(
        "late",
        """
        if [ $run = 1 ]; then begin t; trouble "429 Too Many Requests, try again in 7s"; fi
        begin t; sleep 6; say through; work done; through 1 1
        """,
    )
    assert wait_until_parked(bed, "default").outcome == "quota"
    assert bed.wait_for("late", "done", "failed")["outcome"] == "merged"
    assert outcomes(bed, "late") == [("default", "quota"), ("default", "ok")]


def test_an_agent_that_is_renamed_while_an_attempt_is_prepared_is_still_the_one_that_was_chosen(
    bed: Bed,
) -> None:
    """The template of the prompt is a pipe: preparing waits for it."""

    def name(agent: str) -> None:
        bed.configure(
            f"""
            [agent]
            profile = "{agent}"
            [agents.{agent}]
            preset = "codex"
            command = ["{bed.root.parent}/agent.sh"]
            """
        )

    bed.make(AGENT)
    name("first")
    template = bed.root / "prompt.md"
    template.unlink()
    os.mkfifo(template)
    bed.start()
    bed.drop("task", WORKS)
    with template.open("w") as held:  # opens when it is read
        name("second")
        bed.cli("reload")
        held.write("Do it.")
    template.unlink()
    assert bed.wait_for("task", "done", "failed", "needs_human")["outcome"] == "merged"
    assert outcomes(bed, "task") == [("first", "ok")]
