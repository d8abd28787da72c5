"""The base and a remote: pushed after landings, others' pushes taken up, nothing ever forced."""

from pathlib import Path

import pytest
from bed import COMMIT, HOLD, Bed, Witness

from alluvium_like.config import load_config
from alluvium_like.gitrepo.runner import Identity
from alluvium_like.lifecycle import State
from alluvium_like.stages.integrate.base import Base
from alluvium_like.stages.integrate.train import Car
from alluvium_like.stages.opening import open_parts
from alluvium_like.stages.upstream import pause_after
from alluvium_like.task import Landing
from alluvium_like.workspace import Workspace

PUSH = "[integration]\npush = 'origin'\n"
REVISED = '[ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ]'
OURS_IN_SHARED = """
echo ours > shared.txt
git add -A
git commit -q -m "Write the shared line"
"""
TITLE = "origin/main"


class Origin:
    """A bare repository, and a clone of it in which others work."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.path = bed.root.parent / "origin.git"
        self.away = bed.root.parent / "away.git"
        self.clone = bed.root.parent / "other"

    def make(self, agent: str = COMMIT, config: str = PUSH) -> "Origin":
        """Make the workspace, whose base is pushed to start with."""
        bed = self.bed
        bed.make(agent, config=config)
        bed.git("init", "-q", "--bare", "-b", "main", str(self.path), cwd=bed.root.parent)
        bed.git("remote", "add", "origin", str(self.path))
        bed.git("push", "-q", "origin", "main")
        bed.git("clone", "-q", str(self.path), str(self.clone), cwd=bed.root.parent)
        return self

    @property
    def tip(self) -> str:
        return self.bed.git("rev-parse", "main", cwd=self.path)

    def push(self, files: dict[str, str], subject: str = "others' work") -> str:
        """Let others push files on top of what is there."""
        self.others("pull", "-q", "--rebase")
        for name, text in files.items():
            (self.clone / name).write_text(text)
        self.others("add", "-A")
        self.others("commit", "-q", "-m", subject)
        self.others("push", "-q", "origin", "main")
        return self.others("rev-parse", "HEAD")

    def others(self, *args: str) -> str:
        return self.bed.git(*args, cwd=self.clone)

    def is_even(self) -> bool:
        return self.path.exists() and self.tip == self.bed.git("rev-parse", "main")

    def wait_until_even(self) -> None:
        self.bed.wait(self.is_even, "even with the remote")

    def holds(self, commit: str) -> bool:
        found = self.bed.git("rev-list", "main", cwd=self.path).splitlines()
        return commit in found


@pytest.fixture
def origin(bed: Bed) -> Origin:
    return Origin(bed)


def told(bed: Bed) -> str:
    """Return the reason of the condition, empty when it does not hold."""
    conditions = bed.json("status")["conditions"]
    return "".join(c["reason"] for c in conditions if c["name"] == "upstream")


def wait_until_told(bed: Bed, part: str) -> str:
    bed.wait(lambda: part in told(bed), f"told: {part}")
    return told(bed)


def wait_until_well(bed: Bed) -> None:
    bed.wait(lambda: not told(bed), "nothing told")


def use_ssh(origin: Origin, script: str) -> None:
    """Make the remote one that is reached by a script in the place of ssh."""
    stub = origin.make().bed.root.parent / "ssh.sh"
    stub.write_text(f'#!/bin/sh\n[ "$1" != -G ] || exit 0\nfor last; do :; done\n{script}\n')
    stub.chmod(0o755)
    origin.bed.git("config", "core.sshCommand", str(stub))
    origin.bed.git("remote", "set-url", "origin", f"host:{origin.path}")


def land(bed: Bed, name: str) -> None:
    bed.drop(name)
    assert bed.wait_for(name, "done", "failed", "needs_human")["outcome"] == "merged"


# -- pushing -----------------------------------------------------------------------------------


def test_a_landing_is_pushed_and_so_is_what_the_owner_committed(origin: Origin, bed: Bed) -> None:
    origin.make().bed.start()
    mine = bed.commit({"mine": "mine\n"})
    land(bed, "t")
    origin.wait_until_even()
    assert origin.holds(mine)
    assert told(bed) == ""
    assert bed.git("status", "--porcelain") == ""


def test_a_branch_that_the_remote_lacks_is_made(origin: Origin, bed: Bed) -> None:
    origin.make()
    bed.git("branch", "-m", "main", "else", cwd=origin.path)
    bed.start()
    land(bed, "t")
    bed.wait(lambda: "main" in bed.git("branch", cwd=origin.path), "the branch")
    origin.wait_until_even()


def test_without_the_setting_nothing_is_pushed_until_a_reload(origin: Origin, bed: Bed) -> None:
    before = origin.make(config="").tip
    bed.start()
    land(bed, "t")
    assert origin.tip == before
    bed.configure(PUSH)
    bed.cli("reload")
    origin.wait_until_even()


def test_run_once_pushes_what_it_lands_and_fails_over_no_remote(origin: Origin, bed: Bed) -> None:
    origin.make()
    bed.drop("one")
    bed.cli("run-once")
    assert origin.is_even()
    origin.path.rename(origin.away)
    bed.drop("two")
    bed.cli("run-once")
    assert bed.task("two")["outcome"] == "merged"
    assert "does not appear to be a git repository" in told(bed)
    origin.away.rename(origin.path)
    bed.cli("run-once")
    assert origin.is_even()
    assert told(bed) == ""


def test_an_unreachable_remote_holds_up_no_landing_and_is_tried_again(
    origin: Origin, bed: Bed
) -> None:
    origin.make().bed.start()
    origin.path.rename(origin.away)
    land(bed, "one")
    reason = wait_until_told(bed, TITLE)
    assert "does not appear to be a git repository" in reason
    assert "tried again" in reason
    land(bed, "two")
    origin.away.rename(origin.path)
    origin.wait_until_even()
    wait_until_well(bed)


def test_what_was_not_pushed_before_a_kill_is_pushed_after_it(origin: Origin, bed: Bed) -> None:
    origin.make().bed.start()
    origin.path.rename(origin.away)
    land(bed, "t")
    wait_until_told(bed, TITLE)
    bed.kill()
    origin.away.rename(origin.path)
    bed.start()
    origin.wait_until_even()
    wait_until_well(bed)


def test_no_secret_of_the_url_is_written_anywhere(origin: Origin, bed: Bed) -> None:
    origin.make()
    secret = "correct-horse"
    bed.git("remote", "set-url", "origin", f"http://me:{secret}@127.0.0.1:9/x.git")
    bed.start()
    land(bed, "t")
    assert "127.0.0.1" in wait_until_told(bed, TITLE)
    shown = [bed.cli("status"), bed.cli("show", "t"), bed.run("-C", str(bed.root), "doctor").stdout]
    bed.stop()
    files = [p for p in bed.root.rglob("*") if p.is_file() and p != bed.repo / ".git" / "config"]
    assert len(files) > 50
    written = [str(p) for p in files if secret.encode() in p.read_bytes()]
    assert written == []
    assert not any(secret in text for text in shown)
    assert "http://***@127.0.0.1:9/x.git" in shown[2]


def test_a_remote_that_hangs_holds_up_neither_landing_nor_stop(origin: Origin, bed: Bed) -> None:
    pid = bed.root.parent / "pid"
    use_ssh(origin, f"echo $$ > {pid}; exec sleep 1000")
    bed.start()
    bed.wait_for_file(pid)
    hanging = Witness(int(pid.read_text()))
    land(bed, "t")
    assert hanging.alive()
    assert bed.cli("stop", "--timeout", "10") == "stopped\n"
    assert not hanging.alive()


def test_the_pause_doubles_up_to_ten_minutes() -> None:
    assert [pause_after(n) for n in (1, 2, 3, 8, 10_000)] == [5, 10, 20, 600, 600]


def test_doctor_looks_for_the_remote(origin: Origin, bed: Bed) -> None:
    origin.make()
    checks = {check["name"]: check for check in bed.json("doctor")}
    assert checks["remote"]["status"] == "ok"
    bed.git("remote", "rename", "origin", "elsewhere")
    assert "no remote 'origin'" in bed.run("-C", str(bed.root), "doctor").stdout


def test_a_url_that_runs_a_program_is_refused(origin: Origin, bed: Bed) -> None:
    origin.make()
    ran = bed.root.parent / "ran"
    bed.git("remote", "set-url", "origin", f"ext::sh -c 'touch {ran}'")
    bed.start()
    land(bed, "t")
    assert "nothing that runs a program" in wait_until_told(bed, "ext::")
    assert not ran.exists()


# -- what others pushed ------------------------------------------------------------------------


def test_others_push_on_top_is_taken_up_and_no_agent_called_again(origin: Origin, bed: Bed) -> None:
    origin.make(HOLD + COMMIT).bed.start()
    origin.wait_until_even()
    bed.drop("t")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.agent/outputs/agent")), "running")
    theirs = origin.push({"theirs": "theirs\n"})
    bed.cli("resume")
    bed.wait(lambda: bed.git("rev-parse", "main") == theirs, "taken up")
    assert (bed.repo / "theirs").read_text() == "theirs\n"
    bed.release("t")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert (task["outcome"], task["attempts"]) == ("merged", 1)
    origin.wait_until_even()
    assert bed.git("rev-parse", "main^") == theirs
    assert bed.git("status", "--porcelain") == ""
    assert [t["name"] for t in bed.json("list")] == ["t"]


def test_a_candidate_under_test_is_merged_and_tested_again_on_what_others_pushed(
    origin: Origin, bed: Bed
) -> None:
    """The first run of the tests is held until the base has moved below it."""
    seen = bed.open / "seen"
    test = f"echo x >> {seen}; test -e theirs || while [ ! -e {seen}.go ]; do sleep 0.05; done"
    origin.make(COMMIT, config=f'{PUSH}run_tests = ["{test}"]').bed.start()
    bed.drop("t")
    bed.wait_for_file(seen)
    theirs = origin.push({"theirs": "theirs\n"})
    bed.cli("resume")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert (task["outcome"], task["attempts"]) == ("merged", 1)
    origin.wait_until_even()
    assert bed.git("rev-parse", "main^") == theirs


def test_taking_up_waits_for_the_owners_edits(origin: Origin, bed: Bed) -> None:
    origin.make()
    bed.commit({"shared.txt": "start\n"})
    bed.git("push", "-q", "origin", "main")
    bed.start()
    origin.wait_until_even()
    (bed.repo / "shared.txt").write_text("an edit\n")
    theirs = origin.push({"shared.txt": "theirs\n"})
    bed.cli("resume")
    reason = wait_until_told(bed, "shared.txt")
    assert "your own changes are in the way" in reason
    assert (bed.repo / "shared.txt").read_text() == "an edit\n"
    bed.git("checkout", "-q", "shared.txt")
    bed.wait(lambda: bed.git("rev-parse", "main") == theirs, "taken up")
    wait_until_well(bed)


def test_taking_up_that_a_kill_cut_off_is_finished(origin: Origin, bed: Bed) -> None:
    """A kill in the middle of git's checkout leaves files, with the index and the ref old."""
    theirs = origin.make().push({"one": "theirs\n", "two": "theirs\n"})
    (bed.repo / "one").write_text("theirs\n")
    bed.start()
    bed.wait(lambda: bed.git("rev-parse", "main") == theirs, "taken up")
    assert bed.git("status", "--porcelain") == ""


def diverge(origin: Origin, theirs: dict[str, str], agent: str, config: str = "") -> str:
    """Land a task that is not pushed, let others push, and only then ask for pushes."""
    bed = origin.make(agent, config=config).bed
    bed.start()
    land(bed, "ours")
    tip = origin.push(theirs)
    bed.configure(config + PUSH if not config else config.replace("[integration]\n", PUSH))
    bed.cli("reload")
    return tip


def test_two_histories_become_one_merge_that_is_tested_and_pushed(origin: Origin, bed: Bed) -> None:
    seen = bed.open / "seen"
    theirs = diverge(
        origin, {"theirs": "theirs\n"}, COMMIT, f"[integration]\nrun_tests = ['ls >> {seen}']\n"
    )
    task = bed.wait_for(TITLE, "done", "failed", "needs_human")
    assert (task["outcome"], task["attempts"]) == ("merged", 0)
    origin.wait_until_even()
    ours = bed.task("ours")["merge_commit"]
    assert bed.git("log", "-1", "--format=%P", "main").split() == [ours, theirs]
    assert "theirs" in seen.read_text()
    assert origin.holds(ours)
    assert origin.holds(theirs)
    assert (bed.folder(TITLE) / "input" / "upstream.md").read_text().count(theirs) == 1
    wait_until_well(bed)


def test_others_who_push_in_the_midst_of_a_push_are_merged(origin: Origin, bed: Bed) -> None:
    ready = bed.root.parent / "ready"
    use_ssh(
        origin,
        f'''case "$last" in git-receive-pack*)
            if [ -e {ready} ]; then
                rm {ready}
                as_others() {{ env -i PATH="$PATH" HOME="$HOME" git -C {origin.clone} "$@"; }}
                as_others commit -q --allow-empty -m theirs
                as_others push -q {origin.path} HEAD:main
            fi;;
        esac
        exec sh -c "$last"''',
    )
    ready.touch()
    bed.start()
    land(bed, "t")
    assert bed.wait_for(TITLE, "done", "failed", "needs_human")["outcome"] == "merged"
    origin.wait_until_even()
    assert not ready.exists()
    subjects = bed.git("log", "--format=%s", "main").splitlines()
    assert {"theirs", "Add the work"} <= set(subjects)


def test_while_one_merge_is_open_no_second_is_made(origin: Origin, bed: Bed) -> None:
    agent = f"if {REVISED}; then {HOLD} echo both > shared.txt; else {OURS_IN_SHARED} fi"
    first = diverge(origin, {"shared.txt": "theirs\n"}, agent)
    bed.wait(lambda: any(bed.root.glob("tasks/*origin-main*/.agent/outputs/agent")), "running")
    second = origin.push({"more": "more\n"})
    bed.cli("resume")
    ref = "refs/alluvium/fetched/origin/main"
    store = bed.root / ".alluvium" / "integration.git"
    bed.wait(lambda: bed.git("rev-parse", ref, cwd=store) == second, "seen")
    assert [t["name"] for t in bed.json("list")] == ["ours", TITLE]
    bed.release(TITLE)
    origin.wait_until_even()
    assert origin.holds(first)
    assert origin.holds(second)
    assert [t["name"] for t in bed.json("list")] == ["ours", TITLE, TITLE]
    assert bed.base_file("shared.txt") == "both"


def test_a_conflict_with_what_others_pushed_is_resolved_by_an_agent(
    origin: Origin, bed: Bed
) -> None:
    theirs = diverge(
        origin,
        {"shared.txt": "theirs\n"},
        f"if {REVISED}; then printf 'ours\\ntheirs\\n' > shared.txt; git add -A; "
        f"git commit -q --no-edit; else {OURS_IN_SHARED} fi",
    )
    task = bed.wait_for(TITLE, "done", "failed", "needs_human")
    assert (task["outcome"], task["attempts"], task["revision_round"]) == ("merged", 1, 1)
    origin.wait_until_even()
    assert bed.base_file("shared.txt") == "ours\ntheirs"
    assert origin.holds(theirs)
    assert origin.holds(bed.task("ours")["merge_commit"])
    wait_until_well(bed)


def test_a_resolution_without_their_commits_goes_to_a_person(origin: Origin, bed: Bed) -> None:
    """It could never be pushed. A retry starts at their commit again."""
    good = bed.open / "good"
    agent = f"""
    if ! {REVISED}; then {OURS_IN_SHARED}
    elif [ -e {good} ]; then printf 'both\\n' > shared.txt; git add -A; git commit -q --no-edit
    else
        git reset -q --hard "$(git merge-base HEAD MERGE_HEAD)"
        printf 'rebased\\n' > shared.txt; git add -A; git commit -q -m "Rebased"
    fi
    """
    theirs = diverge(origin, {"shared.txt": "theirs\n"}, agent)
    task = bed.wait_for(TITLE, "done", "failed", "needs_human")
    assert task["state"] == "needs_human"
    assert f"no longer holds {theirs[:12]}" in task["reason"]
    assert origin.tip == theirs
    bed.cli("resume")
    assert task["id"] in wait_until_told(bed, "needs_human")
    good.touch()
    bed.cli("retry", task["id"])
    assert bed.wait_for(TITLE, "done", "failed")["outcome"] == "merged"
    origin.wait_until_even()
    assert origin.holds(theirs)


def test_a_merge_that_was_given_up_is_not_begun_again_by_itself(origin: Origin, bed: Bed) -> None:
    theirs = diverge(
        origin, {"shared.txt": "theirs\n"}, f"if {REVISED}; then exit 1; fi\n{OURS_IN_SHARED}"
    )
    task = bed.wait_for(TITLE, "done", "failed", "needs_human")
    assert task["state"] == "failed"
    bed.cli("resume")
    assert task["id"] in wait_until_told(bed, "is failed")
    assert [t["name"] for t in bed.json("list")] == ["ours", TITLE]
    bed.git("fetch", "-q", "origin")
    bed.git("merge", "-q", "-s", "ours", "-m", "merged by hand", "origin/main")
    bed.cli("resume")
    origin.wait_until_even()
    assert origin.holds(theirs)
    wait_until_well(bed)


# -- rewritten histories -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rewound", "rewritten", "deleted"])
def test_a_remote_that_was_rewritten_is_a_persons_matter(
    origin: Origin, bed: Bed, how: str
) -> None:
    origin.make().bed.start()
    land(bed, "one")
    origin.wait_until_even()
    wait_until_pushed(bed)
    origin.others("pull", "-q")
    match how:
        case "rewound":
            origin.others("push", "-q", "--force", "origin", "HEAD^:main")
        case "rewritten":
            origin.others("commit", "-q", "--amend", "-m", "rewritten")
            origin.others("push", "-q", "--force", "origin", "HEAD:main")
        case _:
            bed.git("symbolic-ref", "HEAD", "refs/heads/other", cwd=origin.path)
            origin.others("push", "-q", "origin", ":main")
    left = bed.git("for-each-ref", cwd=origin.path)
    land(bed, "two")
    assert "rewritten or deleted by others" in wait_until_told(bed, TITLE)
    assert bed.git("for-each-ref", cwd=origin.path) == left
    assert [t["name"] for t in bed.json("list")] == ["one", "two"]
    bed.git("push", "-q", "--force", "origin", "main")  # the person has decided
    land(bed, "three")
    origin.wait_until_even()
    wait_until_well(bed)


def test_a_base_that_the_owner_rewrote_is_his_to_push(origin: Origin, bed: Bed) -> None:
    origin.make().bed.start()
    land(bed, "one")
    origin.wait_until_even()
    wait_until_pushed(bed)
    before = origin.tip
    bed.git("reset", "-q", "--hard", "HEAD^")
    bed.cli("resume")
    assert "--force-with-lease" in wait_until_told(bed, "was rewritten here")
    assert origin.tip == before
    bed.git("push", "-q", "--force", "origin", "main")
    land(bed, "two")
    origin.wait_until_even()
    wait_until_well(bed)


def wait_until_pushed(bed: Bed) -> None:
    """Wait until the daemon knows that its push arrived."""
    log: Path = bed.root / "logs" / "daemon.jsonl"
    bed.wait(lambda: '"pushed"' in log.read_text(), "pushed")


async def test_a_base_that_moves_under_a_landing_loses_nothing(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage looks at the base at any moment, in the middle of a landing too."""
    bed.make()
    bed.git("checkout", "-q", "-b", "mine")
    workspace = Workspace.at(bed.root)
    workspace.lock_file.touch()
    async with open_parts(workspace, load_config(workspace.config_file)) as parts:
        base, seen, who = Base(parts), parts.integration.seen, Identity("a", "a@b", "@1 +0000")
        await base.take_up()
        tree = await parts.integration.tree_of(seen)
        ours = await parts.integration.commit(tree, [seen], "ours\n", author=who, committer=who)
        async with parts.store.transaction("tested") as tx:
            await tx.run("create_revert", id="t", name="t", reverts="", input_seal="")
            await tx.transition("t", expect=State.WORKER_DONE, to=State.INTEGRATING)
        find = parts.store.open_landing

        async def meanwhile_the_owner_commits(repository: str) -> Landing | None:
            monkeypatch.undo()
            theirs = bed.git("commit-tree", "-p", seen, "-m", "owner's", tree)
            bed.git("update-ref", "refs/heads/main", theirs)
            await parts.integration.refresh()
            return await find(repository)

        monkeypatch.setattr(parts.store, "open_landing", meanwhile_the_owner_commits)
        await base.publish([Car("t", ours, tree)])
        assert bed.base_log()[0] == "owner's"
        assert (await parts.store.get("t")).state is State.WORKER_DONE
