"""Agents that touch what none may: found, told, and nothing lands until a person has looked."""

from typing import Any

import pytest
from bed import COMMIT, Bed

pytestmark = pytest.mark.unboxed

HELD_UP = """
echo x > "$ALLUVIUM_AGENT_DIR/outputs/ready"
while [ ! -e "$ALLUVIUM_TASK_DIR/go" ]; do sleep 0.02; done
"""
AGENT = f"""
ROOT="${{ALLUVIUM_TASK_DIR%/tasks/*}}"; R="$ROOT/repo"; I="$ROOT/.alluvium/integration.git"
name="$(ls "$ALLUVIUM_TASK_DIR/input" | tail -n 1)"
forge() {{ git -C "$I" -c user.name=x -c user.email=x@x commit-tree -m forged "main^{{tree}}"; }}
case "$name" in
    bad*) {HELD_UP}
        V="$(echo "$ROOT"/tasks/*-victim-*)"
        . "$ALLUVIUM_TASK_DIR/input/$name" ;;
    slow*) {HELD_UP} ;;
    fails) {COMMIT} exit 1 ;;
esac
{COMMIT}
"""
ONE_AT_A_TIME = "[safety]\nmax_workers = 1\n"
TWO_AT_A_TIME = "[safety]\nmax_workers = 2\n"
NOWHERE = "0123456789012345678901234567890123456789"
HOOKS_PATH = 'git -C "$R" config core.hooksPath /tmp/x'
DEEDS = {
    "hooks path": (HOOKS_PATH, "core.hookspath in config of the repository"),
    "filter": ('git -C "$R" config filter.x.clean /tmp/x', "filter.x.clean"),
    "include": ('git -C "$R" config include.path /tmp/x', "include.path"),
    "remote": ('git -C "$R" config remote.origin.url /tmp/x', "remote.origin.url"),
    "settings of a worktree": (
        'git config -f "$R/.git/config.worktree" core.fsmonitor /tmp/x',
        "core.fsmonitor in config.worktree",
    ),
    "hook": ('echo true > "$R/.git/hooks/pre-commit"', "hooks/pre-commit of the repository"),
    "hooks by a link": (
        'mv "$R/.git/hooks" "$R/.git/h"; ln -s h "$R/.git/hooks"',
        "hooks of the repository",
    ),
    "attributes": ('echo "* filter=x" > "$R/.git/info/attributes"', "info/attributes of the rep"),
    "base by a file": (f'echo {NOWHERE} > "$I/refs/alluvium/base"', "refs/alluvium/base"),
    "base by git": ('git -C "$I" update-ref refs/alluvium/base "$(forge)"', "refs/alluvium/base"),
    "mirror": ('git -C "$I" update-ref refs/heads/main "$(forge)"', "refs/heads/main"),
    "packed": (f'echo "{NOWHERE} refs/tags/x" >> "$I/packed-refs"', "refs/tags/x"),
    "alternates": ('echo /tmp/x > "$I/objects/info/alternates"', "objects/info/alternates"),
    "our settings": ('git -C "$I" config core.fsmonitor /tmp/x', "config of integration.git"),
    "our hook": ('cp /bin/true "$I/hooks/reference-transaction"', "hooks/reference-transaction"),
    "input": ('echo forged > "$V/input/victim"', "input/victim"),
    "history": ('echo {} >> "$V/.system/events.jsonl"', ".system/events.jsonl"),
    "verdict": ('echo {} > "$V/.system/verdict.json"', ".system/verdict.json"),
}


def let(bed: Bed, name: str) -> None:
    (bed.folder(name) / "go").touch()


def wait_until_ready(bed: Bed, name: str) -> None:
    bed.wait(lambda: any(bed.root.glob(f"tasks/*-{name}-*/.agent/outputs/ready")), name)


def begin(bed: Bed, name: str, script: str = "please") -> None:
    bed.drop(name, script)
    wait_until_ready(bed, name)


def strike(bed: Bed, script: str) -> Any:
    """Let an agent do a deed alone; return its task, which a person has to look at then."""
    begin(bed, "bad", script)
    let(bed, "bad")
    return check_held(bed)


def check_held(bed: Bed, what: str = "", suspect: str = "bad") -> Any:
    task = bed.wait_for(suspect, "needs_human", "done", "failed", "worker_done")
    assert task["state"] == "needs_human", task["reason"]
    (reason,) = held(bed)
    assert what in reason
    assert task["id"] in reason
    assert "ran then without a box" in reason
    assert task["reason"] in reason
    return task


def held(bed: Bed) -> list[str]:
    """Return the reason for which the lane is held, if it is."""
    conditions = bed.json("status")["conditions"]
    return [each["reason"] for each in conditions if each["name"] == "escape"]


def log_of(bed: Bed) -> str:
    return (bed.root / "logs" / "daemon.jsonl").read_text()


@pytest.mark.parametrize("deed", DEEDS)
def test_what_no_agent_may_touch_holds_the_lane_and_names_the_suspect(bed: Bed, deed: str) -> None:
    script, what = DEEDS[deed]
    bed.make(AGENT, config=ONE_AT_A_TIME)
    bed.start()
    begin(bed, "bad", script)
    bed.drop("victim")
    bed.wait(lambda: bed.json("status")["tasks"]["queued"] == 1, "claimed")
    let(bed, "bad")
    check_held(bed, what)
    victim = bed.wait_for("victim", "worker_done", "needs_human", "done")
    assert victim["state"] == ("needs_human" if deed == "input" else "worker_done")
    assert bed.landed_task_ids() == []
    assert '"escape_found"' in log_of(bed)
    bed.cli("resume")
    if deed == "input":
        bed.cli("retry", victim["id"])
    assert bed.wait_for("victim", "done")["outcome"] == "merged"
    bed.drop("next")
    assert bed.wait_for("next", "done")["outcome"] == "merged"
    assert held(bed) == []


def test_the_kept_work_of_another_task_is_no_agents_to_move(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME)
    bed.start()
    bed.drop("fails")
    other = bed.wait_for("fails", "failed")["id"]
    strike(bed, f'git -C "$I" update-ref -d refs/alluvium/tasks/{other}')
    assert f"refs/alluvium/tasks/{other} of integration.git (now gone)" in held(bed)[0]


def test_settings_of_ours_that_were_moved_are_put_right_by_resume(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME)
    bed.start()
    tip = bed.git("rev-parse", "main")
    strike(bed, DEEDS["base by git"][0] + "; " + DEEDS["mirror"][0])
    bed.cli("resume")
    bed.wait(lambda: '"escape_over"' in log_of(bed), "over")
    store = bed.root / ".alluvium" / "integration.git"
    for ref in ("refs/alluvium/base", "refs/heads/main"):
        assert bed.git("rev-parse", ref, cwd=store) == tip


def test_what_an_owner_does_every_day_is_the_owners_right(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME)
    origin = bed.root.parent / "origin.git"
    bed.git("init", "-q", "--bare", str(origin), cwd=bed.root.parent)
    bed.git("remote", "add", "origin", str(origin))
    bed.start()
    begin(bed, "slow")
    bed.commit({"owner.txt": "mine"})
    bed.git("tag", "v1")
    bed.git("branch", "side")
    bed.git("push", "-q", "-u", "origin", "main")
    bed.git("branch", "-u", "origin/main", "side")
    bed.git("checkout", "-q", "--track", "-b", "other", "origin/main")
    bed.git("branch", "-d", "side")
    bed.git("gc", "-q")
    bed.configure(ONE_AT_A_TIME + "[integration]\nmax_revision_rounds = 5")
    bed.cli("reload")
    let(bed, "slow")
    assert bed.wait_for("slow", "done", "needs_human")["outcome"] == "merged"
    assert held(bed) == []
    assert '"owner_changed_settings"' in log_of(bed)


def test_nothing_is_looked_at_while_no_agent_runs(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME)
    bed.start()
    bed.drop("first")
    bed.wait_for("first", "done")
    bed.git("config", "core.hooksPath", "/tmp/mine")
    bed.drop("second")
    assert bed.wait_for("second", "done", "needs_human")["outcome"] == "merged"
    assert held(bed) == []


def test_all_that_ran_is_told_of_it_and_what_a_person_puts_back_is_no_escape(bed: Bed) -> None:
    bed.make(AGENT, config="[safety]\nmax_workers = 3\n")
    bed.start()
    for name in ("bad", "slow", "slower"):
        begin(bed, name, HOOKS_PATH)
    let(bed, "bad")
    check_held(bed, "core.hookspath")
    bed.git("config", "--unset", "core.hooksPath")
    let(bed, "slow")
    check_held(bed, suspect="slow")  # it had run when that was found
    begin(bed, "slow-after")
    bed.cli("resume")
    bed.wait(lambda: '"escape_over"' in log_of(bed), "over")
    let(bed, "slow-after")
    assert bed.wait_for("slow-after", "done", "needs_human")["outcome"] == "merged"
    let(bed, "slower")
    assert bed.wait_for("slower", "needs_human", "done")["state"] == "needs_human"
    assert held(bed) == []
    assert log_of(bed).count('"escape_found"') == 1


def test_a_change_after_resume_is_found_again(bed: Bed) -> None:
    bed.make(AGENT, config=TWO_AT_A_TIME)
    bed.start()
    begin(bed, "badly", DEEDS["hook"][0])
    strike(bed, HOOKS_PATH)
    bed.cli("resume")
    bed.wait(lambda: '"escape_over"' in log_of(bed), "over")
    let(bed, "badly")
    task = bed.wait_for("badly", "needs_human", "done")
    (reason,) = held(bed)
    assert "hooks/pre-commit" in reason
    assert task["id"] in reason
    assert "core.hookspath" not in reason


def test_the_lane_is_held_across_a_restart_and_a_single_run_ends(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME + "[integration]\nrun_tests = ['touch $PWD.tested']\n")
    bed.start()
    strike(bed, HOOKS_PATH)
    bed.stop()
    bed.drop("more")
    bed.cli("run-once", "--ignore-settle")
    assert bed.task("more")["state"] == "worker_done"
    bed.cli("integrate-once")
    assert bed.task("more")["state"] == "worker_done"
    bed.start()
    begin(bed, "slow")
    let(bed, "slow")
    bed.wait_for("slow", "worker_done", "done")
    assert "core.hookspath" in bed.json("queue")["paused"]
    assert bed.json("queue")["runs"] == 0
    assert bed.landed_task_ids() == []
    bed.cli("resume")
    assert bed.wait_for("more", "done")["outcome"] == "merged"
    assert bed.wait_for("slow", "done")["outcome"] == "merged"


def test_nothing_is_pushed_while_the_lane_is_held(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME + "[integration]\npush = 'origin'\n")
    origin = bed.root.parent / "origin.git"
    bed.git("init", "-q", "--bare", "-b", "main", str(origin), cwd=bed.root.parent)
    bed.git("remote", "add", "origin", str(origin))
    bed.git("push", "-q", "origin", "main")
    pushed = bed.git("rev-parse", "main")
    bed.start()
    strike(bed, HOOKS_PATH)
    bed.commit({"owner.txt": "mine"})
    bed.drop("more")  # whose attempt sees the new base, and has it pushed
    bed.wait_for("more", "worker_done")
    bed.wait(lambda: any(c["name"] == "upstream" for c in bed.json("status")["conditions"]))
    assert bed.git("rev-parse", "main", cwd=origin) == pushed
    bed.stop()
    bed.cli("run-once", "--ignore-settle")
    assert bed.git("rev-parse", "main", cwd=origin) == pushed
    bed.start()
    bed.cli("resume")
    bed.wait_for("more", "done")
    bed.wait(lambda: bed.git("rev-parse", "main", cwd=origin) == bed.git("rev-parse", "main"))


def test_what_waits_does_not_land_while_the_lane_is_held(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME)
    bed.start()
    rebase = bed.repo / ".git" / "rebase-merge"
    rebase.mkdir()
    bed.drop("waits")
    bed.wait_for_reason("waits", "rebase")
    strike(bed, HOOKS_PATH)
    rebase.rmdir()
    bed.drop("more")  # whose end has the lane look again
    bed.wait_for("more", "worker_done")
    bed.wait(lambda: log_of(bed).count('"attempt_judged"') == 3, "looked")
    assert bed.task("waits")["state"] == "integrating"
    assert bed.landed_task_ids() == []
    bed.cli("resume")
    for name in ("waits", "more"):
        assert bed.wait_for(name, "done")["outcome"] == "merged"


def test_the_base_does_not_follow_others_while_the_lane_is_held(bed: Bed) -> None:
    bed.make(AGENT, config=ONE_AT_A_TIME + "[integration]\npush = 'origin'\n")
    origin, tip = bed.root.parent / "origin.git", bed.git("rev-parse", "main")
    bed.git("clone", "-q", "--bare", str(bed.repo), str(origin), cwd=bed.root.parent)
    bed.git("remote", "add", "origin", str(origin))
    names = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    words = ("commit-tree", "-m", "theirs", "-p", "main", "main^{tree}")
    theirs = bed.git(*names, *words, cwd=origin)
    bed.git("update-ref", "refs/heads/main", theirs, cwd=origin)
    rebase = bed.repo / ".git" / "rebase-merge"
    rebase.mkdir()
    bed.start()
    bed.wait(lambda: "rebase" in str(bed.json("status")["conditions"]), "it waits")
    strike(bed, HOOKS_PATH)
    rebase.rmdir()
    bed.drop("more")
    bed.wait_for("more", "worker_done")
    bed.wait(
        lambda: "see the condition escape" in str(bed.json("status")["conditions"]), "it is held"
    )
    assert bed.git("rev-parse", "main") == tip
    bed.cli("resume")
    assert bed.wait_for("more", "done")["outcome"] == "merged"
    assert theirs in bed.git("rev-list", "main").splitlines()


def test_tests_that_an_agent_wrote_are_watched_too(bed: Bed) -> None:
    bed.make(
        """
        printf 'git -C %s/repo config core.hooksPath /tmp/x' "${ALLUVIUM_TASK_DIR%/tasks/*}" > t
        git add t; git commit -q -m "Add tests"
        """,
        config="[integration]\nrun_tests = ['sh t']\n",
    )
    bed.start()
    bed.drop("bad")
    bed.wait(lambda: bool(held(bed)), "held")
    assert "core.hookspath" in held(bed)[0]
    assert "the tests of " in held(bed)[0]
    assert bed.wait_for("bad", "worker_done", "done")["state"] == "worker_done"


def test_what_an_agent_does_to_its_own_history_is_no_escape(bed: Bed) -> None:
    bed.make(AGENT, config=TWO_AT_A_TIME)
    bed.start()
    begin(bed, "slow")
    begin(bed, "bad", 'echo {} >> "$ALLUVIUM_TASK_DIR/.system/events.jsonl"')
    let(bed, "bad")
    assert bed.wait_for("bad", "done", "needs_human")["outcome"] == "merged"
    let(bed, "slow")
    assert bed.wait_for("slow", "done", "needs_human")["outcome"] == "merged"
    assert held(bed) == []
