"""What tasks say of themselves, in a whole daemon: from files, options and `set`."""

import json
from pathlib import Path

from agent_words import AGENT, attempts, outputs, task
from bed import COMMIT, Bed

TWO = """
[agent]
command = ["{folder}/agent.sh"]
retries = 0
[agents.other]
command = ["/bin/sh", "-c", "echo other > $ALLUVIUM_TASK_ID.txt"]
[integration]
optional_tests = [{{name = "e2e", command = "test ! -e bad.txt"}}]
[safety]
max_workers = 1
"""


def make(bed: Bed, agent: str = COMMIT) -> None:
    bed.make(agent, TWO.format(folder=bed.root.parent))


def drop_folder(bed: Bed, name: str, **files: str) -> None:
    part = bed.inbox / f".{name}.tmp"
    part.mkdir()
    for file, text in files.items():
        (part / file.replace("_", ".")).write_text(text)
    part.rename(bed.inbox / name)


def settings(bed: Bed, name: str) -> dict[str, object]:
    shown = bed.task(name)
    return {**shown["settings"], "agent": shown["agent"], "priority": shown["priority"]}


def test_settings_come_from_front_matter_a_file_options_and_set(bed: Bed) -> None:
    make(bed)
    bed.start()
    bed.cli("pause")
    bed.drop("front.md", "---\nagent: other\ntitle: In front\nlabels: [a, b]\n---\n# Do it\n")
    drop_folder(bed, "folder", task_toml='agent = "other"\npriority = 3\n', wish_md="do it")
    bed.cli(
        *("submit", "-", "--name", "options.md", "--agent", "other", "--title", "By options"),
        *("--priority", "5", "--timeout", "60", "--max-cost", "1.5", "--max-tokens", "1000"),
        *("--label", "a", "--label", "c", "--project", "time", "--test", "e2e"),
        *("--checkpoint", "landing"),
        stdin="---\nproject: overruled\nmodel_: x\ntimeout_seconds: 7\n---\nplease",
    )
    bed.drop("set.md")
    for name in ("front.md", "folder", "set.md"):
        bed.wait_for(name, "queued")
    assert (
        "unknown key; did you mean 'model'?" in bed.wait_for("options.md", "needs_human")["reason"]
    )
    set_id = task(bed, "set.md").id
    bed.cli("set", set_id, "agent=other", "priority=9", "labels=x, y", "title=Set by hand")
    bed.cli("retry", task(bed, "options.md").id)
    assert settings(bed, "front.md") == {
        "agent": "other",
        "priority": 0,
        "title": "In front",
        "labels": ["a", "b"],
    }
    assert settings(bed, "folder") == {"agent": "other", "priority": 3}
    assert settings(bed, "options.md") == {
        "agent": "other",
        "priority": 5,
        "title": "By options",
        "timeout_seconds": 60,
        "max_cost": 1.5,
        "max_tokens": 1000,
        "labels": ["a", "c"],
        "project": "time",
        "tests": ["e2e"],
        "checkpoints": ["landing"],
    }
    assert settings(bed, "set.md") == {
        "agent": "other",
        "priority": 9,
        "title": "Set by hand",
        "labels": ["x", "y"],
    }
    bed.stop()
    bed.cli("set", set_id, "priority=8", "labels=")  # with the daemon down
    assert settings(bed, "set.md") == {"agent": "other", "priority": 8, "title": "Set by hand"}
    assert [each["name"] for each in json.loads(bed.cli("list", "--json", "--label", "a"))] == [
        *("front.md", "options.md")
    ]
    assert [
        each["name"] for each in json.loads(bed.cli("list", "--json", "--project", "time"))
    ] == ["options.md"]
    assert "left out" not in bed.cli("list", "--label", "a", "--limit", "1")
    bed.start()
    bed.cli("resume")
    for name in ("front.md", "folder", "set.md"):
        assert bed.wait_for(name, "done", "failed", "needs_human")["outcome"] == "merged", name
    assert bed.wait_for("options.md", "needs_human")["reason"].startswith("its settings ask for a")
    started = {name: attempts(bed, name)[0].started_at for name in NAMES}
    assert sorted(NAMES, key=lambda name: started[name]) == [
        *("set.md", "options.md", "folder", "front.md")
    ]
    assert {each.agent for name in NAMES for each in attempts(bed, name)} == {"other"}
    bed.cli("approve", task(bed, "options.md").id)
    assert bed.wait_for("options.md", "done", "failed")["outcome"] == "merged"
    told = bed.git("log", "--format=%b", "main")
    for title in ("In front", "By options", "Set by hand", "folder"):
        assert f"Task: {title}\n" in told


BREAKS = """
case "$ALLUVIUM_TASK_ID" in
    *breaker*) [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ] && rm -f red.txt || touch red.txt;;
esac
"""
NAMES = ("front.md", "folder", "options.md", "set.md")


def test_a_wrong_setting_holds_its_task_with_the_reason_and_it_is_put_right(bed: Bed) -> None:
    make(bed)
    bed.start()
    drop_folder(bed, "wrong", task_toml='agent = "nobody"\nmax_cost = "much"\npriority = 2\n')
    drop_folder(bed, "broken", task_toml="agent = \n")
    drop_folder(bed, "theirs", task_toml="[build]\nsteps = 3\n", wish_md="do it")
    asked = bed.wait_for("wrong", "needs_human")
    question = asked["checkpoints"][0]["question"]
    for line in (
        "task.toml: agent: config.toml has no agent 'nobody'; it has: default, other",
        "task.toml: max_cost: not a number (is 'much'; allowed: a number such as 2 or 0.5)",
        f"set {asked['id']} key=value",
    ):
        assert line in question
    assert asked["priority"] == 2, "what is right counts"
    assert asked["attempts"] == 0
    assert "cannot be read" in bed.wait_for("broken", "needs_human")["reason"]
    assert bed.wait_for("theirs", "done", "failed")["outcome"] == "merged"
    assert (bed.folder("wrong") / "input" / "task.toml").exists(), "nothing is lost"

    assert "config.toml has no agent 'nope'" in bed.cli("set", asked["id"], "agent=nope", code=2)
    assert "did you mean 'agent'" in bed.cli("set", asked["id"], "agnt=other", code=2)
    assert "keys are title," in bed.cli("set", asked["id"], "agent", code=2)
    bed.cli("set", asked["id"], "agent=other")
    bed.cli("retry", asked["id"])
    assert bed.wait_for("wrong", "done", "failed")["outcome"] == "merged"
    assert attempts(bed, "wrong")[0].agent == "other"
    for words in (["--agent", "nope"], ["--priority", "high"], ["--checkpoint", "never"]):
        assert bed.cli("submit", "-", *words, code=2, stdin="x").count("\n") == 1
    assert not list(bed.inbox.iterdir())
    assert "only tasks in waiting, queued" in bed.cli("set", asked["id"], "priority=1", code=1)


def test_changes_that_are_made_at_once_are_all_kept(bed: Bed) -> None:
    make(bed)
    bed.start()
    bed.cli("pause")
    bed.drop("task")
    task_id = bed.wait_for("task", "queued")["id"]
    changes = {"title": "T", "project": "p", "max_tokens": 9, "timeout_seconds": 5, "priority": 2}
    at_once = [bed.spawn("set", task_id, f"{key}={value}") for key, value in changes.items()]
    for each in at_once:
        said = each.communicate(timeout=bed.patience)
        assert each.returncode == 0, said
    assert settings(bed, "task") == {**changes, "agent": ""}
    assert "not UTF-8" in bed.run("-C", str(bed.root), "set", task_id, b"title=\xff").stderr
    refused = bed.cli("submit", "-", "--name", "task.toml", "--title", "x", code=2, stdin="mine")
    assert "another file of that name" in refused
    assert not list(bed.inbox.iterdir())


def test_an_agent_that_is_gone_from_the_configuration_holds_its_task(bed: Bed) -> None:
    make(bed)
    bed.start()
    bed.cli("pause")
    bed.drop("task.md", "---\nagent: other\n---\n")
    bed.wait_for("task.md", "queued")
    bed.configure()
    bed.cli("reload")
    bed.cli("resume")
    asked = bed.wait_for("task.md", "needs_human", "failed")
    assert asked["reason"].startswith("config.toml has no agent 'other', which this task names")
    assert asked["attempts"] == 0


def test_a_task_has_its_own_model_deadline_and_budget(bed: Bed) -> None:
    bed.make(AGENT, '[agent]\npreset = "claude"\nretries = 0\n[safety]\nmax_workers = 3')
    bed.start()
    scripts: dict[str, tuple[str, str]] = {
        "late": ("timeout_seconds = 1", "init s m; exec sleep 600"),
        "greedy": ("max_tokens = 1000", "init s m; uses 1200; exec sleep 600"),
        "model": ('model = "opus-9"', "init s m; work done; result 0 1"),
    }
    for name, (own, script) in scripts.items():
        part = bed.inbox / f".{name}.tmp"
        part.mkdir()
        (part / "agent.sh").write_text(script)
        (part / "task.toml").write_text(own)
        part.rename(bed.inbox / name)
    assert "ran longer than 1 s" in bed.wait_for("late", "failed", "done")["reason"]
    asked = bed.wait_for("greedy", "needs_human", "failed", "done")
    assert "it used 1_200 of 1_000 tokens that its settings allow" in asked["reason"]
    assert bed.wait_for("model", "done", "failed")["outcome"] == "merged"
    assert "--model opus-9" in (outputs(bed, "model") / "runs").read_text()


def test_a_test_that_one_task_names_is_for_it_and_what_lands_with_it(bed: Bed) -> None:
    """It is sent back where it fails; others land without."""
    agent = """
    case "$ALLUVIUM_TASK_ID" in
        *careful*) [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ] && rm bad.txt || touch bad.txt;;
    esac
    """
    make(bed, agent + COMMIT)
    bed.start()
    drop_folder(bed, "careful", task_toml='tests = ["e2e"]\n')
    careful = bed.wait_for("careful", "done", "failed", "needs_human")
    assert (careful["outcome"], careful["revision_round"]) == ("merged", 1)
    bed.drop("careless")
    assert bed.wait_for("careless", "done", "failed")["outcome"] == "merged"
    assert "bad.txt" not in bed.git("ls-tree", "--name-only", "main")
    logs = Path(bed.root / "logs" / "tests")
    assert len(list(logs.iterdir())) >= 2


def test_a_base_that_fails_a_named_test_itself_is_blamed_on_nobody(bed: Bed) -> None:
    make(bed)
    bed.commit({"bad.txt": "from before"})
    bed.start()
    drop_folder(bed, "careful", task_toml='tests = ["e2e"]\n')
    bed.wait_for_reason("careful", "waits: the base itself fails test ! -e bad.txt")
    assert bed.task("careful")["revision_round"] == 0
    bed.drop("other")
    assert bed.wait_for("other", "done", "failed")["outcome"] == "merged"
    bed.git("rm", "-q", "bad.txt")
    bed.git("commit", "-q", "-m", "Mend it")
    bed.cli("resume")  # looks at once
    careful = bed.wait_for("careful", "done", "failed", "needs_human")
    assert (careful["outcome"], careful["revision_round"]) == ("merged", 0)


def test_a_base_that_fails_a_named_test_is_still_tested_for_what_all_have_to_pass(
    bed: Bed,
) -> None:
    """One run of a commit at a time, whatever wakes the lane meanwhile."""
    config = TWO.format(folder=bed.root.parent).replace(
        "[integration]",
        '[integration]\nrun_tests = ["sleep 0.5; test ! -e red.txt"]\nparallel_tests = 3',
    )
    bed.make(BREAKS + COMMIT, config)
    bed.commit({"bad.txt": "from before"})
    bed.start()
    drop_folder(bed, "careful", task_toml='tests = ["e2e"]\n')
    bed.wait_for_reason("careful", "waits: the base itself fails test ! -e bad.txt")
    drop_folder(bed, "breaker", task_toml='tests = ["e2e"]\n', wish_md="what all have to pass")
    bed.wait_for("breaker", "integrating")
    others = [f"other-{number}" for number in range(4)]
    for name in others:
        bed.drop(name)
        bed.wait_for(name, "worker_done", "integrating", "done")
    for name in others:
        assert bed.wait_for(name, "done", "failed", "needs_human")["outcome"] == "merged", name
    bed.wait_for_reason("breaker", "waits: the base itself fails test ! -e bad.txt")
    assert bed.task("breaker")["revision_round"] == 1, "for what it broke itself"
    assert "lane_failed" not in (bed.root / "logs" / "daemon.jsonl").read_text()
