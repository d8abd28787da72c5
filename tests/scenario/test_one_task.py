"""What becomes of one dropped item, by what its agent does."""

import json
from pathlib import Path

import pytest
from bed import Bed

RESULT = '"$ALLUVIUM_AGENT_DIR/result.json"'

COMMIT = """
echo work > "$ALLUVIUM_TASK_ID.txt"
git add -A
git commit -q -m "Add the work"
"""


def test_a_dropped_file_becomes_a_commit_on_main(bed: Bed) -> None:
    bed.make(COMMIT)
    bed.start()
    bed.drop("request.md")
    task = bed.wait_for("request.md", "done")
    assert task["outcome"] == "merged"
    assert bed.landed_task_ids() == [task["id"]]
    assert bed.git("rev-parse", "main") == task["merge_commit"]
    assert bed.base_file(f"{task['id']}.txt") == "work"
    assert (bed.repo / f"{task['id']}.txt").exists(), "the owner's checkout follows"
    assert bed.git("status", "--porcelain") == ""
    folder = Path(task["folder"])
    assert (folder / "input" / "request.md").read_text() == "please"
    bed.stop()
    lines = (folder / ".system" / "events.jsonl").read_text().splitlines()
    states = [json.loads(line)["to_state"] for line in lines]
    assert states == ["queued", "running", "worker_done", "integrating", "done"]
    assert "+work" in (folder / ".system" / "patch.diff").read_text()
    assert json.loads((folder / ".agent" / "integration.json").read_text())["status"] == "merged"


def test_a_dropped_folder_keeps_its_contents(bed: Bed) -> None:
    bed.make('cp -R "$ALLUVIUM_TASK_DIR/input" copied\n')
    made = bed.inbox / ".pack.tmp"
    (made / ".agent").mkdir(parents=True)
    (made / ".agent" / "result.json").write_text('{"status": "failed"}')
    (made / "a.txt").write_text("a")
    made.rename(bed.inbox / "pack")
    bed.start()
    task = bed.wait_for("pack", "done")
    assert task["outcome"] == "merged", "a producer's .agent/ is plain input"
    assert bed.base_file("copied/a.txt") == "a"


def test_uncommitted_work_is_committed_for_the_agent(bed: Bed) -> None:
    bed.make("echo new > new.txt; echo changed > AGENTS.md; mkdir -p d; echo x > d/x")
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    assert bed.base_file("AGENTS.md") == "changed"
    assert bed.base_file("d/x") == "x"


def test_what_gitignore_names_is_not_committed_for_the_agent_but_its_own_commits_count(
    bed: Bed,
) -> None:
    bed.make(
        """
        echo '*.log' > .gitignore; echo noise > a.log; echo kept > kept.log
        git add -f kept.log .gitignore; git commit -q -m "Force one in"
        echo more > more.txt
        """
    )
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    names = bed.git("ls-tree", "--name-only", "main").splitlines()
    assert "kept.log" in names
    assert "more.txt" in names
    assert "a.log" not in names


def test_nothing_done_is_a_noop(bed: Bed) -> None:
    bed.make("exit 0")
    before = None
    bed.start()
    before = bed.git("rev-parse", "main")
    bed.drop("t")
    task = bed.wait_for("t", "done")
    assert task["outcome"] == "noop"
    assert bed.git("rev-parse", "main") == before


def test_a_commit_that_takes_itself_back_is_a_noop(bed: Bed) -> None:
    bed.make(COMMIT + "git revert --no-edit HEAD >/dev/null")
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "noop"


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("exit 3", "exited with 3"),
        ("kill -9 $$", "SIGKILL"),
        (
            f'echo \'{{"status": "failed", "summary": "no way"}}\' > {RESULT}',
            "no way",
        ),
    ],
)
def test_commits_of_a_failed_attempt_are_kept_and_never_merged(
    bed: Bed, ending: str, reason: str
) -> None:
    bed.make(COMMIT + ending)
    bed.start()
    before = bed.git("rev-parse", "main")
    bed.drop("t")
    task = bed.wait_for("t", "failed")
    assert reason in task["reason"]
    assert bed.git("rev-parse", "main") == before
    assert "+work" in bed.cli("diff", task["id"])


def test_a_failed_attempt_is_retried_from_where_it_started(bed: Bed) -> None:
    bed.make(
        """
        echo "$ALLUVIUM_TASK_ID" >> "$ALLUVIUM_TASK_DIR/.agent/outputs/runs"
        echo try > half-done.txt
        if [ "$(wc -l < "$ALLUVIUM_TASK_DIR/.agent/outputs/runs")" -lt 2 ]; then
            git add -A; git commit -qm half; exit 1
        fi
        rm half-done.txt; echo whole > whole.txt
        """,
        config="[agent]\nretries = 1",
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done", "failed")
    assert task["outcome"] == "merged"
    assert task["attempts"] == 2
    names = bed.git("ls-tree", "--name-only", "main").splitlines()
    assert "whole.txt" in names
    assert "half-done.txt" not in names


def test_a_timeout_with_half_done_work_is_not_merged(bed: Bed) -> None:
    bed.make(COMMIT + "exec sleep 600", config="[agent]\ntimeout_seconds = 0.5")
    bed.start()
    before = bed.git("rev-parse", "main")
    bed.drop("t")
    task = bed.wait_for("t", "failed")
    assert "deadline" in task["reason"] or "timed out" in task["reason"]
    assert bed.git("rev-parse", "main") == before


@pytest.mark.parametrize(
    "asking",
    [
        'echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"',
        f'echo \'{{"status": "needs_human", "summary": "Which colour?"}}\' > {RESULT}',
    ],
)
def test_a_question_beside_commits_holds_them_and_the_answer_lands_them(
    bed: Bed, asking: str
) -> None:
    bed.make(f'if ! grep -q "bright red" "$ALLUVIUM_PROMPT_FILE"; then\n{COMMIT}\n{asking}\nfi\n')
    bed.start()
    before = bed.git("rev-parse", "main")
    bed.drop("t")
    task = bed.wait_for("t", "needs_human")
    assert "Which colour?" in task["checkpoints"][0]["question"]
    assert bed.git("rev-parse", "main") == before
    bed.cli("answer", task["id"], "bright red")
    task = bed.wait_for("t", "done")
    assert task["outcome"] == "merged"
    assert bed.base_file(f"{task['id']}.txt") == "work"


@pytest.mark.parametrize(
    "place",
    [
        "git checkout -q --detach",
        "git checkout -q -b elsewhere",
        "git checkout -q main 2>/dev/null || git checkout -q --ignore-other-worktrees main",
    ],
)
def test_work_committed_elsewhere_is_found_and_taken(bed: Bed, place: str) -> None:
    bed.make(place + "\n" + COMMIT)
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    assert task["outcome"] == "merged"
    assert bed.base_file(f"{task['id']}.txt") == "work"


def test_work_in_two_places_is_put_to_a_person(bed: Bed) -> None:
    bed.make(
        """
        git checkout -q -b one; echo 1 > one; git add -A; git commit -qm one
        git checkout -q --detach main; echo 2 > two; git add -A; git commit -qm two
        """
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "needs_human")
    assert "several places" in task["reason"]
    kept = Path(task["folder"], ".system", "attempts", "1", "workshop.git")
    branches = bed.git("for-each-ref", "--format=%(refname:short)", cwd=kept)
    assert "one" in branches.split(), "nothing that was committed is gone"


def test_a_commit_on_a_left_branch_is_found(bed: Bed) -> None:
    bed.make("git checkout -q -b side\n" + COMMIT + 'git checkout -q "$ALLUVIUM_BRANCH"')
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"


def test_a_nested_repository_is_left_out_and_the_rest_lands(bed: Bed) -> None:
    bed.make(
        """
        git init -q nested; cd nested; echo n > n; git add n
        git -c user.name=x -c user.email=x@x commit -qm n; cd ..
        echo real > real.txt
        """
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    assert task["outcome"] == "merged"
    names = bed.git("ls-tree", "--name-only", "main").splitlines()
    assert "real.txt" in names
    assert "nested" not in names


def test_an_agent_that_cannot_start_fails_with_one_clear_reason(bed: Bed) -> None:
    bed.make(config='[agent]\ncommand = ["/nowhere/agent"]')
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "failed")
    assert "/nowhere/agent" in task["reason"]


def test_the_same_name_twice_is_two_tasks(bed: Bed) -> None:
    bed.make(COMMIT)
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "done")
    bed.drop("t")
    bed.wait(lambda: len(bed.landed_task_ids()) == 2, "two landed")
    assert len(bed.json("list")) == 2


def test_the_small_environment(bed: Bed) -> None:
    bed.environment["SECRET_TOKEN"] = "s3cret"
    bed.environment["WANTED"] = "wanted"
    bed.make("env > environment.txt", config='[agent]\nenv = ["WANTED"]')
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    lines = bed.base_file("environment.txt")
    assert "s3cret" not in lines
    assert "WANTED=wanted" in lines
    assert f"ALLUVIUM_TASK_ID={task['id']}" in lines
    for name in ("TASK_DIR", "AGENT_DIR", "WORKTREE", "BRANCH", "PROMPT_FILE"):
        assert f"ALLUVIUM_{name}=" in lines
    command = json.loads((Path(task["folder"]) / ".system/attempts/1/command.json").read_text())
    assert "s3cret" not in json.dumps(command)
    assert "wanted" not in json.dumps(command)
