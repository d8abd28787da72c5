"""One attempt after the other: bursts, stalls, sessions that go on, and fresh starts."""

import json

from agent_words import (
    AGENT,
    attempts,
    drop_for,
    outcomes,
    outputs,
    parked,
    runs,
    store,
    task,
    transcript,
)
from bed import Bed

from alluvium_like.lifecycle import Ending

EVIDENCE = ".agent/discovery/attempt-{}/attempt.md"


def prompt(bed: Bed, name: str, run: int) -> str:
    return (outputs(bed, name) / f"prompt-{run}").read_text()


def evidence(bed: Bed, name: str, attempt: int) -> str:
    return (bed.folder(name) / EVIDENCE.format(attempt)).read_text()


def resumed(bed: Bed, name: str) -> list[str]:
    """Return the session with which each run went on."""
    words = [arguments.split() for arguments in runs(bed, name)]
    return [each[-2] if "resume" in each else "" for each in words]


def test_bursts_are_waited_for_and_stalls_ended(bed: Bed) -> None:
    """Several tasks of one daemon, each with its own trouble."""
    bed.make(
        AGENT,
        """
        [agent]
        preset = "codex"
        stall_seconds = 2
        retries = 1
        [safety]
        max_workers = 3
        """,
    )
    bed.start()
    bed.drop(
        "burst",
        """
        if [ $run = 1 ]; then
            begin thread-1; echo one > "$ALLUVIUM_TASK_ID.txt"
            trouble "exceeded retry limit, last status: 429 Too Many Requests, try again in 1s"
        fi
        begin thread-1; say again; work two; through 30 3
        """,
    )
    bed.drop(
        "stall",
        """
        begin t; say "working"
        [ $run = 2 ] || { echo $$ > "$outputs/agent"; exec sleep 600; }
        work done; through 10 1
        """,
    )
    bed.drop(
        "silent",
        """
        begin t
        i=0; while [ $i -lt 8 ]; do i=$((i+1)); timeout 0.5 sh -c 'while :; do :; done' || :; done
        say done; work done; through 10 1
        """,
    )
    for name in ("burst", "stall", "silent"):
        assert bed.wait_for(name, "done", "failed")["outcome"] == "merged", name

    (one,) = attempts(bed, "burst")
    assert (one.outcome, one.input_tokens, one.output_tokens) == ("ok", 30, 3)
    assert resumed(bed, "burst") == ["", "thread-1"]
    assert bed.base_file(f"{task(bed, 'burst').id}.txt") == "one\ntwo", "in the same worktree"
    assert [told["kind"] for told in transcript(bed, "burst")].count("session") == 2
    assert parked(bed) == {}

    assert outcomes(bed, "stall") == [("default", "stall"), ("default", "ok")]
    assert attempts(bed, "stall")[0].ending == Ending.STALLED
    assert task(bed, "stall").failures == 0, "they are forgotten once it worked"
    assert "neither printed nor worked for 2 s" in evidence(bed, "stall", 1)
    assert outcomes(bed, "silent") == [("default", "ok")]


def test_a_program_that_tries_a_used_up_quota_for_ever_gives_its_slot_back(bed: Bed) -> None:
    """It prints all the while, so that it is no stall."""
    bed.make(AGENT, '[agent]\npreset = "codex"\nstall_seconds = 1')
    bed.start()
    bed.drop(
        "for-ever",
        """
        begin t
        i=0; while [ $i -lt 600 ]; do
            i=$((i+1)); printf '{"type":"error","message":"usage limit reached, %s"}\\n' $i
            sleep 0.1
        done
        """,
    )
    bed.wait(lambda: bool(parked(bed)), "the agent is parked")
    bed.wait_for("for-ever", "queued")
    assert outcomes(bed, "for-ever") == [("default", "quota")]
    assert task(bed, "for-ever").failures == 0


def test_half_done_work_does_not_land_because_the_next_agent_does_nothing(bed: Bed) -> None:
    bed.make(AGENT, '[agent]\npreset = "codex"')
    bed.start()
    bed.drop(
        "half",
        """
        if [ $run = 1 ]; then
            begin t; say begun; work half; trouble "usage limit reached, try again in 1s"
        fi
        begin t; say "nothing to do"; through 1 1
        """,
    )
    assert "was cut off" in bed.wait_for("half", "needs_human", "done")["reason"]
    assert bed.landed_task_ids() == []


def test_a_session_goes_on_after_a_revision_and_an_answer_or_evidence_is_given(
    bed: Bed,
) -> None:
    """And one that no longer fits its model, or that nobody wants to go on, begins afresh."""
    bed.make(
        AGENT,
        f"""
        [agent]
        preset = "codex"
        retries = 1
        [agents.fresh]
        preset = "codex"
        command = ["{bed.root.parent}/agent.sh"]
        resume = false
        [integration]
        run_tests = ["! grep -q bad *.txt"]
        [safety]
        max_workers = 3
        """,
    )
    bed.start()
    revised = """
        if [ $run = 1 ]; then
            begin thread-1; work bad; say "did it"; through 100 10
        else
            begin thread-2; echo good > "$ALLUVIUM_TASK_ID.txt"; say mended; through 300 30
        fi
    """
    drop_for(bed, "fresh", "anew", revised)
    bed.drop("revised", revised.replace("thread-2", "thread-1"))
    bed.drop(
        "asked",
        """
        if [ $run = 1 ]; then
            begin thread-1; echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
            say "I ask"; through 100 10
        else
            begin thread-1; work blue; say done; through 150 15
        fi
        """,
    )
    bed.drop(
        "long",
        """
        if [ $run = 1 ]; then
            begin thread-1; say hello
            trouble "Codex ran out of room in the model's context window. Start a new thread."
        fi
        begin thread-2; work done; say done; through 10 1
        """,
    )
    bed.wait_for("asked", "needs_human")
    bed.cli("answer", task(bed, "asked").id, "blue, please")
    for name in ("revised", "anew", "asked", "long"):
        assert bed.wait_for(name, "done", "failed")["outcome"] == "merged", name

    assert resumed(bed, "revised") == ["", "thread-1"]
    assert "revision_request.md" in prompt(bed, "revised", 2)
    assert "goes on, in the same worktree" in prompt(bed, "revised", 2)
    assert [each.input_tokens for each in attempts(bed, "revised")] == [100, 200], (
        "the program tells the sum of the whole session"
    )
    assert resumed(bed, "asked") == ["", "thread-1"]
    assert "blue, please" in prompt(bed, "asked", 2)

    assert resumed(bed, "anew") == ["", ""]
    assert "goes on, in the same worktree" not in prompt(bed, "anew", 2)
    assert "This is a revision" in prompt(bed, "anew", 2)
    assert "Attempt 1" in evidence(bed, "anew", 1)
    assert [each.input_tokens for each in attempts(bed, "anew")] == [100, 300]

    assert outcomes(bed, "long") == [("default", "context"), ("default", "ok")]
    assert resumed(bed, "long") == ["", ""]
    assert "no longer fits the agent's model" in evidence(bed, "long", 1)
    (first, second) = json.loads(bed.cli("show", task(bed, "long").id, "--json"))["runs"]
    assert (first["outcome"], second["outcome"], second["input_tokens"]) == ("context", "ok", 10)


def test_a_session_that_is_gone_is_begun_anew_within_the_attempt(bed: Bed) -> None:
    """And one is known from its first word on: a daemon that is killed has stored it."""
    bed.make(AGENT, '[agent]\npreset = "codex"\nretries = 0')
    bed.start()
    bed.drop(
        "asked",
        """
        case "$*" in
            *resume*) echo "Error: no rollout found for thread id thread-1" >&2; exit 1;;
        esac
        if [ $run = 1 ]; then
            begin thread-1; echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
            say "I ask"; through 100 10; wait_for go
        else
            begin thread-2; work blue; say done; through 150 15
        fi
        """,
    )

    def session_is_stored() -> bool:
        with store(bed) as reader:
            return [each.session for each in reader.attempts(task(bed, "asked").id)] == ["thread-1"]

    bed.wait_for("asked", "running")
    bed.wait(session_is_stored, "the session is stored")
    (outputs(bed, "asked") / "go").touch()
    bed.wait_for("asked", "needs_human")
    bed.cli("answer", task(bed, "asked").id, "blue, please")
    assert bed.wait_for("asked", "done", "failed")["outcome"] == "merged"
    assert resumed(bed, "asked") == ["", "thread-1", ""]
    assert outcomes(bed, "asked") == [("default", "ok"), ("default", "ok")]
    assert [each.session for each in attempts(bed, "asked")] == ["thread-1", "thread-2"]
    assert "blue, please" in prompt(bed, "asked", 3)
    assert "goes on, in the same worktree" not in prompt(bed, "asked", 3)
