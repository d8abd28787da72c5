"""Taking a landed task back: work like any other, merged, tested and undone again."""

from bed import Bed
from test_people import outcome, refused

# The item is what the agent does; a revert that is in others' way is done by hand.
OBEY = """
if [ -e "$ALLUVIUM_TASK_DIR/input/revert.md" ]; then
    cp "$ALLUVIUM_AGENT_DIR/revision_request.md" "$ALLUVIUM_AGENT_DIR/outputs/request"
    printf 'after\\n' > shared
else
    . "$ALLUVIUM_TASK_DIR"/input/*
fi
git add -A
git commit -qm work
"""


def land(bed: Bed, name: str, doing: str) -> str:
    """Let a task land and return its commit."""
    bed.drop(name, doing)
    assert outcome(bed, name) == "done/merged"
    commit = bed.task(name)["merge_commit"]
    assert isinstance(commit, str)
    return commit


def test_a_revert_lands_as_a_tested_commit_that_takes_back_nothing_else(bed: Bed) -> None:
    bed.make(OBEY, config=f"[integration]\nrun_tests = ['git rev-parse HEAD >> {bed.open}/runs']")
    bed.start()
    undone = land(bed, "undo", "echo x > x; echo changed > AGENTS.md")
    land(bed, "later", "echo y > y")
    bed.cli("revert", "undo")
    task = bed.wait_for("revert-undo", "done", "needs_human", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 0)
    assert bed.git("diff", "--name-only", f"{undone}~1", "main") == "y"
    assert task["merge_commit"] == bed.git("rev-parse", "main")
    assert (bed.open / "runs").read_text().split()[-1] == task["merge_commit"]
    message = bed.git("log", "-1", "--format=%B", "main")
    assert message.startswith("Revert undo\n")
    assert f"Task-Id: {task['id']}" in message
    assert undone in bed.cli("diff", "revert-undo") or "x" in bed.cli("diff", "revert-undo")
    assert undone in (bed.folder("revert-undo") / "input" / "revert.md").read_text()
    assert bed.git("status", "--porcelain") == ""


def test_a_revert_is_taken_back_in_turn(bed: Bed) -> None:
    bed.make(OBEY)
    bed.start()
    land(bed, "undo", "echo x > x")
    first = bed.git("rev-parse", "main^{tree}")
    bed.cli("revert", "undo")
    assert outcome(bed, "revert-undo") == "done/merged"
    bed.cli("revert", "revert-undo")
    assert outcome(bed, "revert-revert-undo") == "done/merged"
    assert bed.git("rev-parse", "main^{tree}") == first
    names = ("undo", "revert-undo", "revert-revert-undo")
    assert [bed.json("show", name)["name"] for name in names] == list(names)
    bed.stop()
    bed.start()
    assert len(bed.landed_task_ids()) == 3


def test_a_revert_that_later_work_stands_in_the_way_of_goes_to_an_agent(bed: Bed) -> None:
    bed.make(OBEY)
    bed.start()
    land(bed, "undo", "echo before > shared")
    land(bed, "later", "echo after >> shared")
    bed.cli("revert", "undo")
    task = bed.wait_for("revert-undo", "done", "needs_human", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 1), task
    assert any("later work is in the way" in event["reason"] for event in task["events"])
    request = (bed.folder("revert-undo") / ".agent" / "outputs" / "request").read_text()
    assert "take a commit back" in request
    assert "`shared`" in request
    assert bed.base_file("shared") == "after"


def test_a_revert_without_which_the_tests_fail_comes_back(bed: Bed) -> None:
    bed.make(OBEY)
    bed.start()
    land(bed, "needed", "echo needed > shared")
    bed.configure("[integration]\nrun_tests = ['test -e shared || { echo gone; exit 1; }']")
    bed.cli("reload")
    bed.cli("revert", "needed")
    task = bed.wait_for("revert-needed", "done", "needs_human", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 1), task
    request = (bed.folder("revert-needed") / ".agent" / "outputs" / "request").read_text()
    assert "gone" in request
    assert bed.base_file("shared") == "after", "the agent found another way"


def test_a_revert_of_what_is_gone_already_changes_nothing(bed: Bed) -> None:
    bed.make(OBEY)
    bed.start()
    land(bed, "undo", "echo x > x")
    before = bed.git("rev-parse", "main^{tree}")
    bed.git("revert", "--no-edit", "HEAD")
    tip = bed.git("rev-parse", "main")
    bed.cli("revert", "undo")
    assert outcome(bed, "revert-undo") == "done/noop"
    assert bed.git("rev-parse", "main") == tip
    assert before != bed.git("rev-parse", "main^{tree}")


def test_what_changed_nothing_or_has_not_landed_cannot_be_taken_back(bed: Bed) -> None:
    bed.make(OBEY)
    bed.start()
    bed.set_agent("exit 0")
    bed.drop("noop")
    assert outcome(bed, "noop") == "done/noop"
    bed.set_agent("exit 3")
    bed.drop("failed")
    assert outcome(bed, "failed").startswith("failed")
    for _ in range(2):
        assert "changed nothing; there is nothing to take back" in refused(bed, "revert", "noop")
        assert "only tasks in done can be reverted" in refused(bed, "revert", "failed")
        assert "no task matches" in refused(bed, "revert", "nowhere")
        bed.stop()
    assert len(bed.json("list")) == 2
    assert len(list((bed.root / "tasks").iterdir())) == 2


def test_a_revert_is_asked_for_with_the_daemon_down_and_cancelled_before_it_is_taken(
    bed: Bed,
) -> None:
    bed.make(OBEY)
    bed.start()
    land(bed, "undo", "echo x > x")
    bed.stop()
    bed.cli("revert", "undo")
    bed.cli("cancel", bed.task("revert-undo")["id"])
    bed.start()
    bed.stop()
    assert bed.base_file("x") == "x"
    bed.cli("revert", bed.task("undo")["id"])
    (waiting,) = (t["id"] for t in bed.json("list") if t["state"] == "worker_done")
    bed.start()
    bed.wait_until_idle()
    assert bed.json("show", waiting)["outcome"] == "merged"
    assert bed.git("ls-tree", "--name-only", "main", "x") == ""


def test_a_revert_of_protected_work_waits_for_leave(bed: Bed) -> None:
    bed.make(OBEY, config="[integration]\nprotected_paths = []")
    bed.start()
    land(bed, "undo", "echo x > Jenkinsfile")
    bed.configure()
    bed.cli("reload")
    bed.cli("revert", "undo")
    bed.wait_for("revert-undo", "needs_human")
    assert bed.base_file("Jenkinsfile") == "x"
    bed.cli("approve", "revert-undo")
    assert outcome(bed, "revert-undo") == "done/merged"
    assert bed.git("ls-tree", "--name-only", "main", "Jenkinsfile") == ""
