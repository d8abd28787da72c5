"""Work that touches protected paths waits for a person, whose leave is for exactly that work."""

import pytest
from bed import Bed
from test_people import outcome, refused

# The item is what the agent does, in the worktree.
OBEY = '. "$ALLUVIUM_TASK_DIR"/input/*; git add -A; git commit -qm work || true'
# As above, at first; then what it was told in the end.
LISTEN = """
if grep -q "leave it" "$ALLUVIUM_PROMPT_FILE"; then
    rm -f Jenkinsfile; echo work > work
elif grep -q "too wide" "$ALLUVIUM_PROMPT_FILE"; then
    echo narrow > Jenkinsfile
else
    echo wide > Jenkinsfile
fi
git add -A
git commit -qm work || true
"""
WAYS = {
    "a file": ("echo x > Jenkinsfile", "Jenkinsfile"),
    "a folder": ("mkdir -p .github/workflows; echo x > .github/workflows/ci.yml", ".github/"),
    "nested attributes": ("mkdir -p a/b; echo '* text' > a/b/.gitattributes", "a/b/.gitattributes"),
    "a deletion": ("git rm -q .gitmodules", ".gitmodules"),
    "a rename away": ("git mv .husky/pre-push harmless", ".husky/pre-push"),
    "a rename to": ("mkdir .claude; git mv AGENTS.md .claude/x", ".claude/x"),
    "a mode": ("chmod +x .gitmodules", ".gitmodules"),
    "a link in place of a folder": ("rm -r .husky; ln -s x .husky", ".husky"),
    "a link to a new folder": ("mkdir vs; echo x > vs/mcp.json; ln -s vs .vscode", ".vscode"),
    "upper case": ("mkdir .GitHub; echo x > .GitHub/x", ".GitHub/x"),
}


def question(bed: Bed, name: str) -> str:
    """Return what is asked about a task that waits for leave."""
    task = bed.wait_for(name, "needs_human", "done", "failed")
    assert task["state"] == "needs_human", task["events"]
    last = task["checkpoints"][-1]
    assert (last["kind"], last["answer"]) == ("approval", None)
    assert isinstance(last["question"], str)
    return last["question"]


def test_every_way_to_touch_one_waits_for_leave_and_others_go_on(bed: Bed) -> None:
    bed.make(OBEY)
    bed.commit({".gitmodules": "", ".husky/pre-push": "exit 0\n"})
    bed.start()
    before = bed.git("rev-parse", "main")
    for name, (doing, _) in WAYS.items():
        bed.drop(name, doing)
    for name, (_, path) in WAYS.items():
        assert path in question(bed, name)
        assert path in bed.task(name)["reason"]
    assert bed.git("rev-parse", "main") == before
    bed.drop("AGENTS.md", "echo new > AGENTS.md")
    bed.drop("lookalike", "echo x > Jenkinsfile.md; mkdir github; echo x > github/x")
    assert outcome(bed, "AGENTS.md") == outcome(bed, "lookalike") == "done/merged"
    assert len(bed.landed_task_ids()) == 2


def test_leave_lands_exactly_the_work_that_was_there(bed: Bed) -> None:
    bed.make(OBEY)
    bed.start()
    bed.drop("t", "echo x > Jenkinsfile")
    assert "Jenkinsfile" in question(bed, "t")
    asked_about = bed.cli("diff", "t")
    bed.drop("y", "echo y > y")
    assert outcome(bed, "y") == "done/merged"
    assert bed.cli("approve", "t").startswith("approved")
    task = bed.wait_for("t", "done", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 1)
    assert task["checkpoints"][-1]["answer"] == "approved"
    assert bed.cli("diff", "t") == asked_about
    assert bed.base_file("Jenkinsfile") == "x"
    assert "only tasks in needs_human" in refused(bed, "approve", "t")


def test_what_was_rejected_comes_back_and_asks_again(bed: Bed) -> None:
    bed.make(LISTEN)
    bed.start()
    bed.drop("t")
    question(bed, "t")
    bed.cli("reject", "t", "too wide")
    bed.wait(lambda: len(bed.task("t")["checkpoints"]) == 2, "asked again")
    question(bed, "t")
    task = bed.task("t")
    assert "too wide" in task["checkpoints"][0]["answer"]
    assert task["attempts"] == 2
    assert "narrow" in bed.cli("diff", "t")
    bed.cli("reject", "t", "leave it alone: leave it")
    task = bed.wait_for("t", "done", "failed")
    assert (task["outcome"], task["attempts"]) == ("merged", 3)
    assert bed.git("ls-tree", "--name-only", "main", "Jenkinsfile") == ""


def test_leave_for_one_work_is_none_for_the_next(bed: Bed) -> None:
    """Approved work fails its tests; what the agent makes of it is asked about again."""
    bed.make(
        """
        if [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ]; then
            echo worse > Jenkinsfile
        else
            echo bad > Jenkinsfile
        fi
        git add -A; git commit -qm work
        """,
        config="[integration]\nrun_tests = ['! grep -qs bad Jenkinsfile']",
    )
    bed.start()
    bed.drop("t")
    question(bed, "t")
    bed.cli("approve", "t")
    bed.wait(lambda: bed.task("t")["attempts"] == 2, "sent back")
    question(bed, "t")
    assert "worse" in bed.cli("diff", "t")
    bed.cli("approve", "t")
    assert outcome(bed, "t") == "done/merged"
    assert bed.base_file("Jenkinsfile") == "worse"


def test_an_empty_list_protects_nothing_and_an_own_list_what_it_says(bed: Bed) -> None:
    bed.make(OBEY, config="[integration]\nprotected_paths = []")
    bed.start()
    bed.drop("free", "echo x > Jenkinsfile; echo '* text' > .gitattributes")
    assert outcome(bed, "free") == "done/merged"
    bed.configure("[integration]\nprotected_paths = ['Makefile', 'deploy/', 'ci/*.sh']")
    bed.cli("reload")
    doings = {
        "held-1": "mkdir -p sub; echo x > sub/makefile",
        "held-2": "mkdir -p a/deploy/b; echo x > a/deploy/b/c",
        "held-3": "mkdir ci; echo x > ci/run.sh",
        "free-1": "echo y > Jenkinsfile",
        "free-2": "mkdir -p sub/ci; echo x > sub/ci/run.sh",
        "held-4": "echo x > deploy",
    }
    for name, doing in doings.items():
        bed.drop(name, doing)
    for name in doings:
        if name.startswith("held"):
            question(bed, name)
        else:
            assert outcome(bed, name) == "done/merged"


def test_a_question_is_answered_and_never_approved(bed: Bed) -> None:
    bed.make(
        """
        grep -q blue "$ALLUVIUM_PROMPT_FILE" ||
            echo "Colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
        echo x > x
        """
    )
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "needs_human")
    for command in (["approve", "t"], ["reject", "t", "no"]):
        assert "asks a question; use 'answer'" in refused(bed, *command)
    assert "no task matches" in refused(bed, "approve", "nowhere")
    bed.cli("answer", "t", "blue")
    assert outcome(bed, "t") == "done/merged"


@pytest.mark.parametrize("word", [["answer", "t", "too wide"], ["retry", "t"], ["cancel", "t"]])
def test_work_that_waits_for_leave_may_also_be_answered_retried_or_cancelled(
    bed: Bed, word: list[str]
) -> None:
    bed.make(LISTEN)
    bed.start()
    bed.drop("t")
    question(bed, "t")
    bed.cli(*word)
    if word[0] == "cancel":
        assert bed.task("t")["state"] == "cancelled"
        assert "only tasks in needs_human" in refused(bed, "approve", "t")
        return
    bed.wait(lambda: len(bed.task("t")["checkpoints"]) == 2, "asked again")
    assert "Jenkinsfile" in question(bed, "t")


def test_leave_is_given_and_refused_alike_with_the_daemon_down(bed: Bed) -> None:
    bed.make(LISTEN)
    bed.start()
    for name in ("yes", "no"):
        bed.drop(name)
        question(bed, name)
    bed.stop()
    bed.cli("approve", "yes")
    bed.cli("reject", "no", "leave it")
    assert "only tasks in needs_human" in refused(bed, "approve", "no")
    assert bed.task("yes")["state"] == "worker_done"
    bed.start()
    assert outcome(bed, "yes") == "done/merged"
    bed.wait_for("no", "done", "needs_human", "failed")
    assert bed.base_file("Jenkinsfile") == "wide"
