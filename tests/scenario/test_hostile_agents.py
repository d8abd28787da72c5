"""What an agent without a box may do to its folders, and what a task must never carry along."""

import subprocess

import pytest
from bed import Bed

pytestmark = pytest.mark.unboxed
WORK = 'echo work > "$ALLUVIUM_TASK_ID.txt"; git add -A; git commit -q -m "Add the work"\n'


@pytest.mark.parametrize(
    ("deed", "states"),
    [
        ("git update-ref \"refs/heads/x$(printf '\\342\\200\\250')y\" HEAD", {"done"}),
        ('rm -rf "$ALLUVIUM_TASK_DIR"', {"needs_human"}),
        ('rm -rf "$ALLUVIUM_AGENT_DIR"; ln -s /tmp "$ALLUVIUM_AGENT_DIR"', {"done"}),
        ('rm -rf "$(git rev-parse --git-common-dir)"', {"needs_human"}),
        ('cd ..; rm -rf "$ALLUVIUM_WORKTREE"; ln -s / "$ALLUVIUM_WORKTREE"', {"needs_human"}),
        ('head -c 100000 /dev/urandom > "$ALLUVIUM_AGENT_DIR/result.json"', {"done"}),
        ('mkfifo "$ALLUVIUM_AGENT_DIR/needs_human.md"', {"needs_human"}),
        ("GIT_AUTHOR_DATE='@0 +0000' git commit -q --amend --no-edit --reset-author", {"done"}),
        ("rm .git; mkdir .git; echo x > .git/HEAD", {"done"}),
    ],
)
def test_the_daemon_lives_and_the_next_task_lands(bed: Bed, deed: str, states: set[str]) -> None:
    bed.make(f'{WORK}\nif [ "$(ls "$ALLUVIUM_TASK_DIR"/input)" = bad ]; then\n{deed}\nfi\n')
    pid = bed.start()
    bed.drop("bad")
    assert bed.wait_for("bad", "done", "needs_human", "failed")["state"] in states
    bed.drop("good")
    assert bed.wait_for("good", "done")["outcome"] == "merged"
    assert bed.json("status")["daemon"]["pid"] == pid
    assert not bed.json("status")["conditions"]


def test_planted_links_and_pipes_in_the_system_folder_lead_nowhere(bed: Bed) -> None:
    precious = bed.root.parent / "precious"
    precious.write_text("mine")
    bed.make(
        f"""
        {WORK}
        cd "$ALLUVIUM_TASK_DIR/.system"
        ln -s {precious} tests.log; ln -s {precious} patch.diff
        rm -f events.jsonl; mkfifo events.jsonl
        """,
        config="[integration]\nrun_tests = ['rm $PWD.log; mkfifo $PWD.log; true']",
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    bed.stop()
    assert precious.read_text() == "mine"
    assert '"merged"' in bed.cli("show", task["id"], "--json")


def test_nothing_a_workshop_says_is_executed(bed: Bed) -> None:
    bed.make(
        """
        proof="$ALLUVIUM_TASK_DIR/../../proof"
        G="$(git rev-parse --git-common-dir)"
        printf '#!/bin/sh\\ntouch %s\\n' "$proof" > "$G/evil"; chmod +x "$G/evil"
        mkdir -p "$G/hooks"; for h in post-checkout post-commit pre-commit reference-transaction \
            post-index-change post-merge; do cp "$G/evil" "$G/hooks/$h"; done
        echo x > x; echo '* filter=evil diff=evil merge=evil' > .gitattributes
        git -c core.hooksPath=/dev/null add -A
        git -c core.hooksPath=/dev/null commit -qm x
        for key in core.fsmonitor filter.evil.clean filter.evil.smudge diff.evil.textconv \
            merge.evil.driver uploadpack.packObjectsHook core.alternateRefsCommand core.editor; do
            git config "$key" "$G/evil"
        done
        echo dirty > y
        """,
        config="[integration]\nprotected_paths = []",
    )
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    assert not (bed.root / "proof").exists()


def test_borrowed_objects_that_were_changed_are_not_read(bed: Bed) -> None:
    private = bed.root.parent / "private"
    bed.make(
        f"""
        {WORK}
        echo {private}/.git/objects >> "$(git rev-parse --git-common-dir)/objects/info/alternates"
        git update-ref "refs/heads/$ALLUVIUM_BRANCH" "$(git -C {private} rev-parse HEAD)"
        """
    )
    subprocess.run(["git", "init", "-q", private], check=True)
    (private / "secret").write_text("secret")
    bed.git("add", "-A", cwd=private)
    bed.git("commit", "-qm", "secret", cwd=private)
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "needs_human", "done", "failed")
    assert task["state"] == "needs_human"
    assert "borrowed objects" in task["reason"]


def test_a_stash_is_put_to_a_person(bed: Bed) -> None:
    bed.make("echo changed > AGENTS.md; git stash -q")
    bed.start()
    bed.drop("t")
    assert "stash" in bed.wait_for("t", "needs_human", "done")["reason"]


def test_work_that_is_all_in_a_nested_repository_is_put_to_a_person(bed: Bed) -> None:
    bed.make(
        "git init -q n; cd n; echo n > n; git add n; "
        "git -c user.name=x -c user.email=x@x commit -qm n"
    )
    bed.start()
    bed.drop("t")
    assert "repository of its own" in bed.wait_for("t", "needs_human", "done")["reason"]


def test_a_conflict_that_nobody_touched_is_not_concluded(bed: Bed) -> None:
    """A binary conflict has no markers; doing nothing must not choose a side."""
    bed.make(
        """
        [ ! -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ] || exit 0
        printf 'agent\\000' > f.bin
        echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
        while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        """,
        config="[integration]\nmax_revision_rounds = 1",
    )
    bed.commit({"f.bin": "start\0"})
    bed.start()
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "ready")
    bed.commit({"f.bin": "owner\0", "other": "more"})
    bed.release("t")
    assert bed.wait_for("t", "needs_human", "done")["state"] == "needs_human"
    assert bed.base_file("f.bin") == "owner\0"


def test_wide_conflict_markers_never_land(bed: Bed) -> None:
    bed.make(
        """
        if [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ]; then
            git add -A; git commit -q -m "Pretend"; exit 0
        fi
        echo agent > a.md
        echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
        while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        """,
        config="[integration]\nmax_revision_rounds = 1",
    )
    bed.commit({"a.md": "start\n", ".gitattributes": "*.md conflict-marker-size=20\n"})
    bed.start()
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "ready")
    bed.commit({"a.md": "owner\n"})
    bed.release("t")
    assert bed.wait_for("t", "needs_human", "done")["state"] == "needs_human"
    assert bed.base_file("a.md") == "owner"


def test_a_submodule_of_the_owner_stays_as_it_was(bed: Bed) -> None:
    inner = bed.root.parent / "inner"
    subprocess.run(["git", "init", "-q", "-b", "main", inner], check=True)
    (inner / "i").write_text("i")
    bed.git("add", "-A", cwd=inner)
    bed.git("commit", "-qm", "i", cwd=inner)
    bed.make(
        """
        git -c protocol.file.allow=always submodule -q update --init
        cd sub; echo more > more; git add -A
        git -c user.name=x -c user.email=x@x commit -qm more; cd ..
        echo f > f
        """
    )
    bed.git("-c", "protocol.file.allow=always", "submodule", "-q", "add", str(inner), "sub")
    bed.git("commit", "-qm", "Add a submodule")
    before = bed.git("rev-parse", "main:sub")
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    assert bed.git("rev-parse", "main:sub") == before
    assert "sub" in bed.task("t")["reason"] + str(bed.task("t")["events"])


def test_what_the_owner_amended_away_does_not_come_back(bed: Bed) -> None:
    bed.make(
        f"""
        {WORK}
        echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
        while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        """
    )
    bed.commit({"first": "x"})
    bed.commit({"secret": "secret", "c": "c"})
    bed.start()
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "ready")
    bed.git("rm", "-q", "secret")
    bed.git("commit", "-q", "--amend", "--no-edit")
    bed.release("t")
    task = bed.wait_for("t", "done", "needs_human")
    assert task["outcome"] == "merged"
    assert task["attempts"] == 1
    names = bed.git("ls-tree", "--name-only", "main").split()
    assert f"{task['id']}.txt" in names
    assert "secret" not in names


def test_a_cancelled_task_that_runs_again_is_not_touched_by_its_old_trial(bed: Bed) -> None:
    bed.make(
        f"""
        {WORK}
        if [ -e "$ALLUVIUM_AGENT_DIR/again" ]; then
            echo ready > "$ALLUVIUM_AGENT_DIR/outputs/ready"
            while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        fi
        """,
        config=f"""
        [integration]
        max_revision_rounds = 0
        run_tests = ['''
            echo run >> {bed.open}/runs
            while [ ! -e {bed.open}/go ]; do sleep 0.02; done
            ! ls *.txt
        ''']
        """,
    )
    bed.start()
    bed.drop("t")
    bed.wait(lambda: (bed.open / "runs").exists(), "trial")
    folder = bed.folder("t")
    (folder / ".agent" / "again").touch()
    bed.cli("cancel", "t-")
    bed.cli("retry", "t-")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/ready")), "second attempt")
    assert bed.json("queue")["testing"] == []
    (bed.open / "go").touch()
    assert bed.task("t")["state"] == "running"
    assert bed.task("t")["attempts"] == 2
    bed.release("t")
    assert bed.wait_for("t", "done", "needs_human")["attempts"] == 2
