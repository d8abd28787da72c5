"""The whole daemon while a person works in the same repository: it waits, tells, and goes on."""

import os
import signal
from pathlib import Path

from bed import Bed, daemon

WORK = """
cp "$ALLUVIUM_TASK_DIR"/input/* .
git add -A
git diff --cached --quiet || git commit -q -m "Add the work"
"""
HOLD = 'while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done\n'


def names(bed: Bed, commit: str = "main") -> set[str]:
    return set(bed.git("ls-tree", "--name-only", commit).split())


def start_anew(bed: Bed, name: str) -> str:
    """Put a history of its own in the base's place, as a forced push does."""
    bed.git("checkout", "-q", "--orphan", f"anew-{name}")
    bed.git("rm", "-q", "-rf", ".")
    tip = bed.commit({name: "anew\n"}, f"start anew: {name}")
    bed.git("branch", "-M", f"anew-{name}", "main")
    return tip


def test_each_state_of_the_owners_is_told_everywhere_and_waited_for(bed: Bed) -> None:
    """Without a restart, and with nothing of theirs touched."""
    bed.make(WORK)
    bed.commit({"kept": "1\n"})
    bed.start()
    lock = bed.repo / ".git" / "index.lock"

    def edit() -> None:
        (bed.repo / "edited").write_text("mine")

    def end_edit() -> None:
        assert (bed.repo / "edited").read_text() == "mine"
        (bed.repo / "edited").unlink()

    def revert() -> None:
        bed.git("revert", "--no-commit", "HEAD~0")

    states = {
        "edited": ("your own changes are in the way: edited", edit, end_edit),
        "locked": (f"{lock} has been there since", lock.touch, lock.unlink),
        "reverted": ("a revert is under way", revert, lambda: bed.git("revert", "--abort")),
    }
    for name, (told, begin, end) in states.items():
        begin()
        bed.drop(name, "the task's")
        bed.wait_for_reason(name, told)
        task = bed.task(name)
        assert task["state"] == "integrating"
        for seen in (bed.cli("show", task["id"]), bed.cli("queue"), bed.cli("status")):
            assert told in seen
        assert told in bed.json("status")["landing"]
        end()
        bed.cli("reload")
        assert bed.wait_for(name, "done")["outcome"] == "merged"
        assert bed.json("status")["landing"] is None
    assert bed.git("status", "--porcelain") == ""
    assert len(bed.landed_task_ids()) == len(states)


def deadly_filter(bed: Bed, *victims: str) -> Path:
    """A filter of the owner's that kills whom it is told, once, in the midst of a landing."""
    bed.commit({".gitattributes": "zz filter=deadly\n"})
    once = bed.root.parent / "once"
    once.touch()
    script = f"test -e {once} && rm {once} && kill -9 {' '.join(victims)}; cat"
    bed.git("config", "filter.deadly.smudge", script)
    return once


def test_a_git_that_is_killed_in_a_landing_costs_neither_work_nor_a_restart(bed: Bed) -> None:
    bed.make(WORK)
    once = deadly_filter(bed, "$PPID")
    (bed.repo / "AGENTS.md").write_text("mine")
    bed.start()
    bed.drop("zz", "text")
    assert bed.wait_for("zz", "done", "needs_human")["outcome"] == "merged"
    assert not once.exists(), "it was killed"
    assert bed.git("status", "--porcelain") == "M AGENTS.md"
    assert bed.json("status")["conditions"] == []


def test_locks_of_a_daemon_that_was_killed_in_a_landing_stop_nothing_after_it(bed: Bed) -> None:
    """Git and daemon die at once, with the owner's index locked and half of the files written."""
    bed.make(WORK)
    (bed.repo / "AGENTS.md").write_text("mine")
    once = deadly_filter(bed, "$PPID", '$(cat "$DAEMON")')
    pid_file = bed.root / ".alluvium" / "daemon.pid"
    bed.git(
        "config",
        "filter.deadly.smudge",
        bed.git("config", "filter.deadly.smudge").replace("$DAEMON", str(pid_file)),
    )
    bed.start()
    died = daemon(bed)
    bed.drop("zz", "text")
    assert died.ends_within(60)
    assert not once.exists()
    assert (bed.repo / ".git" / "index.lock").exists()
    integration = bed.root / ".alluvium" / "integration.git"
    for name in ("refs/alluvium/base.lock", "refs/heads/main.lock", "HEAD.lock", "config.lock"):
        (integration / name).touch()
    bed.start()
    assert bed.wait_for("zz", "done", "needs_human")["outcome"] == "merged"
    assert bed.git("status", "--porcelain") == "M AGENTS.md"
    assert len(bed.landed_task_ids()) == 1
    assert list(integration.rglob("*.lock")) == []


def test_a_base_that_moves_at_the_very_landing_loses_nothing_and_brings_nothing_back(
    bed: Bed,
) -> None:
    """The daemon is stopped before its git runs; each landing is redone on what it finds then."""
    bed.make(WORK)
    bed.environment["ALLUVIUM_FAILPOINTS"] = ";".join(
        f"landing.ref@{number}:before:stop" for number in (1, 3, 5, 7)
    )
    pid = bed.start()
    stat = Path(f"/proc/{pid}/stat")

    def moved(name: str) -> str:
        match name:
            case "forward":
                return bed.commit({"pushed": "1\n"})
            case "amended":
                bed.git("commit", "-q", "--amend", "-m", "amended")
            case "backwards":
                bed.git("reset", "-q", "--hard", "HEAD~1")
            case _:
                return start_anew(bed, "fresh")
        return bed.git("rev-parse", "main")

    for name in ("forward", "amended", "backwards", "anew"):
        bed.drop(name)
        bed.wait(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), "stopped")
        gone = bed.git("rev-parse", "main")
        tip = moved(name)
        os.kill(pid, signal.SIGCONT)
        task = bed.wait_for(name, "done", "needs_human", "failed")
        assert task["outcome"] == "merged"
        assert task["attempts"] == 1
        assert bed.git("rev-parse", "main~1") == tip
        assert names(bed) == names(bed, tip) | {name}
        assert (gone in bed.git("rev-list", "main").split()) == (name == "forward")
        assert bed.git("status", "--porcelain") == ""
    assert names(bed) == {"fresh", "anew"}
    assert [task["outcome"] for task in bed.json("list")] == ["merged"] * 4


def test_a_history_that_is_replaced_takes_no_stage_by_surprise(bed: Bed) -> None:
    """Tasks that run, wait for a person, wait to land: each brings its own work and no more."""
    bed.make(
        f"""
        {WORK}
        case $ALLUVIUM_TASK_ID in
            *-asks-*)
                cd "$ALLUVIUM_AGENT_DIR"
                [ -e asked ] || echo why > needs_human.md
                touch asked ;;
            *-runs-*)
                touch "$ALLUVIUM_AGENT_DIR/up"
                {HOLD} ;;
        esac
        """
    )
    bed.commit({"taken-out": "secret\n"})
    bed.start()
    bed.drop("asks")
    bed.wait_for("asks", "needs_human")
    (bed.repo / "lands").write_text("mine")
    bed.drop("lands")
    bed.wait_for_reason("lands", "waits")
    bed.drop("runs")
    bed.wait(lambda: any(bed.root.glob("tasks/*-runs-*/.agent/up")), "runs")
    (bed.repo / "lands").unlink()
    os.kill(pid := bed.json("status")["daemon"]["pid"], signal.SIGSTOP)
    tip = start_anew(bed, "fresh")
    os.kill(pid, signal.SIGCONT)
    bed.release("runs")
    bed.cli("answer", bed.task("asks")["id"], "so")
    for name in ("runs", "asks", "lands"):
        task = bed.wait_for(name, "done", "failed")
        assert task["outcome"] == "merged", task
    assert names(bed) == {"fresh", "runs", "asks", "lands"}
    assert bed.git("merge-base", "main", tip) == tip
    assert "taken-out" not in bed.git("log", "--name-only", "--format=", "main").split()


def test_a_base_that_is_deleted_is_told_never_made_and_waited_for(bed: Bed) -> None:
    bed.make(WORK)
    bed.start()
    bed.git("checkout", "-q", "-b", "mine")
    bed.git("branch", "-q", "-D", "main")
    bed.drop("t")
    bed.wait(lambda: "base branch 'main' is not there" in bed.cli("status"), "told")
    bed.commit({"on-mine": "x\n"})
    assert bed.git("branch", "--format=%(refname:short)") == "mine"
    bed.git("branch", "main")
    bed.cli("reload")
    task = bed.wait_for("t", "done", "failed")
    assert task["outcome"] == "merged", task
    assert names(bed) >= {"t", "on-mine"}
    assert bed.git("symbolic-ref", "--short", "HEAD") == "mine"
