"""One daemon, dozens of hostile agents: each ends as it must, and nobody else suffers.

All run in one workspace, two at a time, with honest tasks among them; the tests look at what is
there afterwards. `hostile_deeds.py` has the deeds.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bed import Bed
from hostile_deeds import AT_THE_DEADLINE, EVIL, FORGED, IN_GIT, OF_ITSELF, PRELUDE, PROCESSES

BEFORE = {**IN_GIT, **OF_ITSELF, **FORGED, **PROCESSES}
DEEDS = {**BEFORE, **AT_THE_DEADLINE}
HONEST = ("honest before", "honest among", "honest after")
LIMIT = 100_000
CONFIG = f"""
[agent]
timeout_seconds = {{timeout}}
output_limit_bytes = {LIMIT}
[integration]
protected_paths = ["guarded.txt"]
run_tests = ['''
    echo spoilt > AGENTS.md; echo litter > litter
    git add -A; git -c user.name=x -c user.email=x@x commit -q -m litter || exit 1
    git update-ref refs/heads/main HEAD
''']
[safety]
shutdown_grace_seconds = 0.3
"""
SECRET = "a word that nobody may know"


@dataclass(frozen=True)
class Aftermath:
    """What was there before, and what is there when all is over."""

    bed: Bed
    pid: int
    owner: Mapping[str, str]
    tasks: Mapping[str, Any]


def settings_of(repo: Path) -> dict[str, str]:
    """Digest what of the owner's repository only the owner may change."""
    places = [repo / ".git" / "config", *sorted((repo / ".git" / "hooks").iterdir())]
    places += [path for path in (repo / ".git" / "info").iterdir() if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in places}


def wait_for_all(bed: Bed, count: int) -> None:
    """Wait until so many tasks were claimed and all have ended."""
    bed.wait(lambda: len(bed.json("list")) == count, f"{count} tasks")
    bed.wait_until_idle()


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    bed = Bed(tmp_path_factory.mktemp("hostile") / "ws")
    evil = bed.root.parent / "evil"
    evil.write_text(EVIL)
    evil.chmod(0o755)
    (bed.root.parent / "secret").write_text(f'{{"status": "failed", "summary": "{SECRET}"}}')
    bed.make(PRELUDE, config=CONFIG.format(timeout=60))
    owner = settings_of(bed.repo)
    try:
        pid = bed.start()
        bed.drop(HONEST[0], "work")
        for number, (name, (script, _)) in enumerate(BEFORE.items()):
            bed.drop(name, script)
            if number == len(BEFORE) // 2:
                bed.drop(HONEST[1], "work")
        wait_for_all(bed, 2 + len(BEFORE))
        bed.configure(CONFIG.format(timeout=1.5))
        bed.cli("reload")
        for name, (script, _) in AT_THE_DEADLINE.items():
            bed.drop(name, script)
        wait_for_all(bed, 2 + len(DEEDS))
        bed.drop(HONEST[2], "work")
        wait_for_all(bed, 3 + len(DEEDS))
        tasks = {task["name"]: task for task in bed.json("list")}
        yield Aftermath(bed, pid, owner, tasks)
    finally:
        bed.stop()


@pytest.mark.parametrize("name", DEEDS)
def test_each_deed_ends_as_it_must(after: Aftermath, name: str) -> None:
    task = after.tasks[name]
    assert (task["outcome"] or task["state"]) == DEEDS[name][1], task["reason"]


@pytest.mark.parametrize("name", HONEST)
def test_honest_work_lands_before_among_and_after(after: Aftermath, name: str) -> None:
    assert after.tasks[name]["outcome"] == "merged"


def test_the_daemon_lives_and_has_nothing_to_complain_about(after: Aftermath) -> None:
    status = after.bed.json("status")
    assert status["daemon"]["pid"] == after.pid
    assert not status["conditions"]


def test_nothing_that_was_planted_was_run_by_anybody_else(after: Aftermath) -> None:
    proof = after.bed.root.parent / "proof"
    assert not proof.exists(), proof.read_text()


def test_no_process_of_any_of_them_is_left(after: Aftermath) -> None:
    root = os.fsencode(after.bed.root / "tasks")
    left = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if root in line:
            left.append(line)
    assert not left


def test_the_base_holds_exactly_what_landed_and_the_owners_settings_are_untouched(
    after: Aftermath,
) -> None:
    bed = after.bed
    landed = {task["id"] for task in after.tasks.values() if task["outcome"] == "merged"}
    assert set(bed.landed_task_ids()) == landed
    files = set(bed.git("ls-tree", "--name-only", "main").split("\n"))
    assert {f"{task}.txt" for task in landed} <= files
    assert not {"guarded.txt", "litter"} & files
    assert bed.base_file("AGENTS.md") != "spoilt"
    assert bed.git("status", "--porcelain") == ""
    assert settings_of(bed.repo) == after.owner


def test_both_repositories_are_whole_and_name_no_work_but_that_of_tasks(after: Aftermath) -> None:
    bed = after.bed
    integration = bed.root / ".alluvium" / "integration.git"
    for place in (bed.repo, integration):
        bed.git("-c", "core.fsmonitor=false", "fsck", "--full", "--strict", cwd=place)
    kept = bed.git("for-each-ref", "--format=%(refname)", "refs/alluvium/tasks", cwd=integration)
    open_ones = {task["id"] for task in after.tasks.values() if task["state"] != "done"}
    assert {ref.rsplit("/", 1)[1] for ref in kept.split()} <= open_ones
    assert bed.git("rev-parse", "refs/heads/main", cwd=integration) == bed.git("rev-parse", "main")


def test_verify_names_the_forged_history_and_nothing_else(after: Aftermath) -> None:
    done = after.bed.run("-C", str(after.bed.root), "verify", "--json")
    found = json.loads(done.stdout)["findings"]
    assert {(each["kind"], each["subject"]) for each in found} == {
        ("events.jsonl", after.tasks["forges a verdict"]["id"])
    }


def test_no_secret_and_no_forgery_is_told_or_believed(after: Aftermath) -> None:
    bed = after.bed
    for name in ("result that leads outside", "question that leads outside"):
        assert SECRET not in bed.cli("show", after.tasks[name]["id"], "--json")
    assert "protected paths: guarded.txt" in after.tasks["forges leave"]["reason"]
    assert "20200101T000000Z" not in "".join(bed.landed_task_ids())


@pytest.mark.parametrize("name", ["prints without measure", "prints for ever"])
def test_output_is_capped_and_the_run_goes_on(after: Aftermath, name: str) -> None:
    kept = after.bed.folder(name) / ".system" / "attempts" / "1" / "stdout.log"
    assert LIMIT < kept.stat().st_size < LIMIT + 200
    assert b"the rest was dropped" in kept.read_bytes()[-200:]
