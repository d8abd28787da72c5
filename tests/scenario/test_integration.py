"""What the integrator does with ready work: merges, tests, revisions, the owner's repository."""

import json
import os
import re
import subprocess
from pathlib import Path

from bed import Bed

ADD_ONE = """
echo work > "$ALLUVIUM_TASK_ID.txt"
git add -A
git commit -q -m "Add the work"
"""
SAME_LINE = """
[ ! -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ] || exit 0
cp "$ALLUVIUM_TASK_DIR"/input/* shared.txt
git add -A
git commit -q -m "Write the shared line"
"""


def test_three_conflicting_tasks_lose_nothing(bed: Bed) -> None:
    """One lands; the others come back with both sides named, and end with a person."""
    bed.make(SAME_LINE, config="[integration]\nmax_revision_rounds = 1\n[safety]\nmax_workers = 3")
    bed.start()
    bed.commit({"shared.txt": "start\n"})
    for name in ("one", "two", "three"):
        bed.drop(name, f"{name} wants this\n")
    counts = bed.wait_until_idle()
    assert counts.get("done") == 1
    assert counts.get("done", 0) + counts.get("needs_human", 0) + counts.get("failed", 0) == 3
    tasks = [bed.task(name) for name in ("one", "two", "three")]
    (winner,) = [t for t in tasks if t["state"] == "done"]
    assert bed.base_file("shared.txt") == f"{winner['name']} wants this"
    for loser in (t for t in tasks if t["state"] != "done"):
        assert f"{loser['name']} wants this" in bed.cli("diff", loser["id"])
        request = Path(loser["folder"], ".agent", "revision_request.md").read_text()
        assert "shared.txt" in request
        assert f"{winner['name']} wants this" in request
        assert f"{loser['name']} wants this" in request


def test_a_conflict_is_left_in_the_worktree_and_its_resolution_lands(bed: Bed) -> None:
    bed.make(
        """
        if [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ]; then
            grep -q "<<<<<<<" shared.txt
            git status --porcelain > "$ALLUVIUM_AGENT_DIR/outputs/status"
            printf 'owner\\nagent\\n' > shared.txt
            git add -A
            git commit -q --no-edit
        else
            echo agent > shared.txt
            echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
            while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        fi
        """
    )
    bed.start()
    bed.commit({"shared.txt": "start\n"})
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "ready")
    bed.commit({"shared.txt": "owner\n"})
    bed.release("t")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert task["outcome"] == "merged"
    assert task["revision_round"] == 1
    assert bed.base_file("shared.txt") == "owner\nagent"
    status = (bed.folder("t") / ".agent/outputs/status").read_text()
    assert status.split("\n")[0] == "UU shared.txt"
    merged = bed.git("log", "--format=%s", "main")
    assert "owner's work" in merged


def test_a_conflict_resolved_without_a_commit_is_concluded_for_the_agent(bed: Bed) -> None:
    bed.make(
        """
        if [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ]; then
            printf 'both\\n' > shared.txt
        else
            echo agent > shared.txt
            echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
            while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        fi
        """
    )
    bed.start()
    bed.commit({"shared.txt": "start\n"})
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "ready")
    bed.commit({"shared.txt": "owner\n"})
    bed.release("t")
    assert bed.wait_for("t", "done", "failed", "needs_human")["outcome"] == "merged"
    assert bed.base_file("shared.txt") == "both"


def test_a_conflict_resolved_for_the_own_side_throughout_is_concluded(bed: Bed) -> None:
    bed.make(
        """
        if [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ]; then
            echo agent > shared.txt
        else
            echo agent > shared.txt
            echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
            while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        fi
        """
    )
    bed.start()
    bed.commit({"shared.txt": "start\n"})
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "ready")
    bed.commit({"shared.txt": "owner\n"})
    bed.release("t")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert task["outcome"] == "merged"
    assert task["revision_round"] == 1
    assert bed.base_file("shared.txt") == "agent"


def test_conflict_markers_never_land(bed: Bed) -> None:
    bed.make(
        """
        if [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ]; then
            git add -A; git commit -q -m "Pretend to have resolved it"
        else
            echo agent > shared.txt
            echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
            while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        fi
        """
    )
    bed.start()
    bed.commit({"shared.txt": "start\n"})
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "ready")
    bed.commit({"shared.txt": "owner\n"})
    bed.release("t")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert task["state"] == "needs_human"
    assert task["attempts"] == 3, "every revision round was used"
    assert any("not resolved" in event["reason"] for event in task["events"])
    assert bed.base_file("shared.txt") == "owner"


def test_failed_tests_come_back_with_their_output_and_the_amended_work_lands(bed: Bed) -> None:
    bed.make(
        """
        if grep -q "no good value" "$ALLUVIUM_AGENT_DIR/revision_request.md" 2>/dev/null; then
            echo good > value
        else
            echo bad > value
        fi
        git add -A; git commit -q -m "Choose a value"
        """,
        config="""
        [integration]
        run_tests = ['grep -qs bad value && echo no good value && exit 1; true']
        """,
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert task["outcome"] == "merged"
    assert task["attempts"] == 2
    assert bed.base_file("value") == "good"
    assert "bad" not in bed.git("log", "-p", "--first-parent", "--format=", "main", "--", "value")


def test_revision_rounds_end_with_a_person(bed: Bed) -> None:
    bed.make(
        'echo "$ALLUVIUM_TASK_ID" >> value; git add -A; git commit -q -m more',
        config="[integration]\nrun_tests = ['test ! -e value']\nmax_revision_rounds = 2",
    )
    bed.start()
    before = bed.git("rev-parse", "main")
    bed.drop("t")
    task = bed.wait_for("t", "needs_human", "done", "failed")
    assert task["state"] == "needs_human"
    assert task["attempts"] == 3
    assert task["revision_round"] == 2
    assert bed.git("rev-parse", "main") == before
    assert "tests failed" in task["checkpoints"][-1]["question"]


def test_a_test_that_hangs_is_ended_at_its_deadline_with_all_its_processes(bed: Bed) -> None:
    marker = f"sleep 98{os.getpid() % 1000:03}"
    bed.make(
        ADD_ONE,
        config=f"""
        [integration]
        max_revision_rounds = 0
        [[integration.run_tests]]
        name = "slow"
        command = "test ! -e AGENTS.md || (setsid {marker} & {marker})"
        timeout_seconds = 0.5
        """,
    )
    bed.start()
    bed.git("rm", "-q", "AGENTS.md")
    bed.git("commit", "-qm", "A base that passes")
    bed.set_agent("echo x > AGENTS.md")
    bed.drop("t")
    task = bed.wait_for("t", "needs_human", "done", "failed")
    assert "did not end within 0.5 s" in task["reason"]
    found = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True, check=False)
    assert found.stdout == ""


def test_a_red_base_pauses_the_lane_and_blames_nobody(bed: Bed) -> None:
    bed.make(ADD_ONE, config="[integration]\nrun_tests = ['test ! -e broken']")
    bed.start()
    bed.commit({"broken": "x"})
    bed.drop("t")
    bed.wait(lambda: bool(bed.json("status")["conditions"]), "base red")
    (condition,) = bed.json("status")["conditions"]
    assert condition["name"] == "base_red"
    assert "base red" in bed.cli("status")
    task = bed.task("t")
    assert task["state"] == "worker_done"
    assert task["attempts"] == 1
    assert task["revision_round"] == 0
    bed.git("rm", "-q", "broken")
    bed.git("commit", "-qm", "Mend it")
    bed.drop("u")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    assert bed.wait_for("u", "done")["outcome"] == "merged"
    assert bed.json("status")["conditions"] == []


def test_a_push_to_the_base_in_between_costs_a_merge_and_no_agent_run(bed: Bed) -> None:
    bed.make(
        ADD_ONE,
        config=f"""
        [integration]
        run_tests = ['''
            echo run >> {bed.open}/runs
            while [ ! -e {bed.open}/go ]; do sleep 0.02; done
        ''']
        """,
    )
    bed.start()
    bed.drop("t")
    runs = bed.open / "runs"
    bed.wait(lambda: runs.exists(), "tests run")
    pushed = bed.commit({"owner.txt": "mine"})
    (bed.open / "go").touch()
    task = bed.wait_for("t", "done")
    assert task["outcome"] == "merged"
    assert task["attempts"] == 1
    assert len(runs.read_text().splitlines()) == 2, "tested again on the new base"
    assert bed.git("rev-parse", "main~1") == pushed


def test_unrelated_edits_of_the_owner_survive_a_landing(bed: Bed) -> None:
    bed.make(ADD_ONE)
    bed.start()
    (bed.repo / "AGENTS.md").write_text("my own edit, not committed")
    (bed.repo / "untracked").write_text("mine")
    bed.drop("t")
    bed.wait_for("t", "done")
    assert (bed.repo / "AGENTS.md").read_text() == "my own edit, not committed"
    assert (bed.repo / "untracked").read_text() == "mine"
    assert bed.git("status", "--porcelain").split("\n") == ["M AGENTS.md", "?? untracked"]


def test_overlapping_edits_defer_the_landing_and_the_queue_goes_on_above(bed: Bed) -> None:
    bed.make('cp "$ALLUVIUM_TASK_DIR"/input/* .; git add -A; git commit -qm work')
    bed.start()
    (bed.repo / "AGENTS.md").write_text("my own edit")
    (bed.repo / "ignored").write_text("precious")
    (bed.repo / ".git/info/exclude").write_text("ignored\n")
    bed.drop("AGENTS.md", "the task's version")
    bed.wait_for("AGENTS.md", "integrating")
    bed.wait_for_reason("AGENTS.md", "waits")
    assert "AGENTS.md" in bed.task("AGENTS.md")["reason"]
    bed.drop("ignored", "the task's")
    bed.wait_for_reason("ignored", "waits")
    assert (bed.repo / "AGENTS.md").read_text() == "my own edit"
    assert (bed.repo / "ignored").read_text() == "precious"
    bed.git("checkout", "-q", "AGENTS.md")
    (bed.repo / "ignored").rename(bed.root / "saved")
    assert bed.wait_for("AGENTS.md", "done")["outcome"] == "merged"
    assert bed.wait_for("ignored", "done")["outcome"] == "merged"
    assert (bed.repo / "AGENTS.md").read_text() == "the task's version"


def test_a_deferred_task_can_be_cancelled_and_what_is_above_it_lands(bed: Bed) -> None:
    bed.make('cp "$ALLUVIUM_TASK_DIR"/input/* .; git add -A; git commit -qm work')
    bed.start()
    (bed.repo / "AGENTS.md").write_text("my own edit")
    bed.drop("AGENTS.md", "the task's version")
    bed.wait_for_reason("AGENTS.md", "waits")
    bed.drop("other", "text")
    bed.wait_for_reason("other", "waits")
    bed.cli("cancel", bed.task("AGENTS.md")["id"])
    assert bed.wait_for("other", "done")["outcome"] == "merged"
    assert bed.task("AGENTS.md")["state"] == "cancelled"
    assert (bed.repo / "AGENTS.md").read_text() == "my own edit"
    assert len(bed.landed_task_ids()) == 1


def test_what_waits_is_built_on_although_our_base_was_moved_meanwhile(bed: Bed) -> None:
    """By an agent that then ended the daemon, which has forgotten what it saw."""
    bed.make('cp "$ALLUVIUM_TASK_DIR"/input/* .; git add -A; git commit -qm work')
    bed.start()
    (bed.repo / "AGENTS.md").write_text("my own edit")
    bed.drop("AGENTS.md", "the task's version")
    bed.wait_for_reason("AGENTS.md", "waits")
    bed.kill()
    store = bed.root / ".alluvium" / "integration.git"
    names = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    forged = bed.git(*names, "commit-tree", "-m", "forged", "main^{tree}", cwd=store)
    bed.git("update-ref", "refs/alluvium/base", forged, cwd=store)
    bed.start()
    bed.drop("other", "text")
    bed.wait_for_reason("other", "waits")
    bed.git("checkout", "-q", "AGENTS.md")
    assert bed.wait_for("AGENTS.md", "done")["outcome"] == "merged"
    assert bed.wait_for("other", "done")["outcome"] == "merged"
    assert "forged" not in bed.git("log", "--format=%s", "main")


def test_work_that_a_waiting_landing_held_already_ends_with_it(bed: Bed) -> None:
    bed.make("echo agent > AGENTS.md; git commit -qam work")
    bed.start()
    (bed.repo / "AGENTS.md").write_text("my own edit")
    bed.drop("first")
    bed.wait_for_reason("first", "the landing waits")
    bed.drop("second")
    bed.wait_for_reason("second", "holds all of it")
    bed.git("checkout", "-q", "AGENTS.md")
    assert bed.wait_for("first", "done")["outcome"] == "merged"
    assert bed.wait_for("second", "done")["outcome"] == "noop"


def test_a_rebase_under_way_is_waited_for(bed: Bed) -> None:
    bed.make(ADD_ONE)
    bed.commit({"f": "1\n"}, "first")
    bed.commit({"f": "2\n"}, "second")
    bed.start()
    bed.environment["GIT_SEQUENCE_EDITOR"] = "sed -i s/^pick/edit/"
    bed.git("rebase", "-q", "-i", "HEAD~1")
    bed.drop("t")
    bed.wait_for_reason("t", "rebase")
    assert bed.task("t")["state"] == "integrating"
    bed.git("rebase", "--continue")
    assert bed.wait_for("t", "done")["outcome"] == "merged"


def test_a_base_that_is_not_checked_out_and_a_bare_repository(bed: Bed, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    bed.make(ADD_ONE)
    subprocess.run(["git", "clone", "-q", "--bare", bed.repo, bare], check=True)
    bed.configure(repo=bare)
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    assert bed.git("rev-parse", "main", cwd=bare) == task["merge_commit"]


def test_the_owner_on_another_branch_is_left_alone(bed: Bed) -> None:
    bed.make(ADD_ONE)
    bed.git("checkout", "-q", "-b", "mine")
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "done")
    assert bed.git("symbolic-ref", "HEAD") == "refs/heads/mine"
    assert bed.git("rev-parse", "mine") == bed.git("rev-parse", "main~1")


def test_merge_commits_as_an_option(bed: Bed) -> None:
    bed.make(ADD_ONE, config='[integration]\nmerge_style = "merge"')
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    assert bed.git("log", "-1", "--format=%p", "main").count(" ") == 1
    assert bed.landed_task_ids() == [task["id"]]


def test_an_agent_cannot_forge_the_trailer_of_another_task(bed: Bed) -> None:
    bed.make(
        """
        echo x > x; git add -A
        git commit -q -m "Forge

        Task-Id: somebody-else"
        printf '{"status": "succeeded", "summary": "done\\\\n\\\\nTask-Id: forged"}' \
            > "$ALLUVIUM_AGENT_DIR/result.json"
        """
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    assert bed.landed_task_ids() == [task["id"]]


def test_the_second_of_two_equal_tasks_is_a_noop(bed: Bed) -> None:
    bed.make("echo same > same.txt", config="[safety]\nmax_workers = 2")
    bed.start()
    bed.drop("a")
    bed.drop("b")
    bed.wait_until_idle()
    assert sorted(t["outcome"] for t in bed.json("list")) == ["merged", "noop"]


def test_forty_tasks_dropped_at_once_all_land(bed: Bed) -> None:
    bed.make(ADD_ONE, config="[safety]\nmax_workers = 8")
    bed.start()
    before = len(bed.base_log())
    for number in range(40):
        bed.drop(f"task-{number}")
    assert bed.wait_until_idle() == {"done": 40}
    assert len(bed.base_log()) == before + 40
    assert len(bed.landed_task_ids()) == 40
    assert bed.git("status", "--porcelain") == ""


def test_work_without_a_common_history_is_put_to_a_person_in_words(bed: Bed) -> None:
    bed.make(
        """
        git checkout -q --orphan alone
        echo mine > mine
        git add mine
        git commit -q -m "A history of its own"
        """
    )
    bed.start()
    base = bed.git("rev-parse", "main").strip()
    bed.drop("t")
    task = bed.wait_for("t", "needs_human", "done", "failed")
    words = task["reason"].removeprefix("cannot be merged: ")
    assert re.fullmatch(f"commits {base[:12]} and [0-9a-f]{{12}} have no history in common", words)
    (asked,) = task["checkpoints"]
    assert words in asked["question"]
    log = (bed.root / "logs" / "daemon.jsonl").read_text()
    records = [json.loads(line) for line in log.splitlines()]
    (told,) = [record for record in records if record["event"] == "task_not_coupled"]
    assert told["error"] == words
    assert "exception" not in told
