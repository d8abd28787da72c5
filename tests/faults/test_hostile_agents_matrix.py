"""One daemon, dozens of hostile agents, no box: each ends as it must, and nobody else suffers.

All run in one workspace, two at a time, with honest tasks among them; the tests look at what is
there afterwards. `hostile_deeds.py` has the deeds.
"""

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bed import Bed
from hostile_deeds import AT_THE_DEADLINE, EVIL, FORGED, IN_GIT, OF_ITSELF, PRELUDE, PROCESSES

from alluvium_like.store.reader import StoreReader

TURNS = (IN_GIT, {**OF_ITSELF, **FORGED, **PROCESSES}, AT_THE_DEADLINE)
DEEDS = {name: deed for turn in TURNS for name, deed in turn.items()}
HONEST = ("honest before", "honest among", "honest after", "honest at the end")
pytestmark = pytest.mark.timeout(300)  # some fifty tasks
LIMIT = 100_000
CONFIG = f"""
[agent]
timeout_seconds = {{timeout}}
output_limit_bytes = {LIMIT}
[integration]
protected_paths = ["guarded.txt"]
run_tests = ['''
    [ ! -e litter ] || exit 1
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


def drop(bed: Bed, deeds: Mapping[str, tuple[str, str]]) -> None:
    """Drop deeds, and wait until all of them are tasks and have ended."""
    for name, (script, _) in deeds.items():
        bed.drop(name, script)

    def known() -> bool:
        with StoreReader(bed.root / ".alluvium" / "alluvium.db") as store:
            return deeds.keys() <= {task.name for task in store.tasks()}

    bed.wait(known, "claimed")
    bed.wait_until_idle()


def left_behind(bed: Bed) -> dict[int, bytes]:
    """Find the living processes on whose command line the folder of all tasks stands."""
    root = os.fsencode(bed.root / "tasks")
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found[int(folder.name)] = (folder / "cmdline").read_bytes()
    return {pid: line for pid, line in found.items() if root in line}


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    bed = Bed(tmp_path_factory.mktemp("hostile") / "ws", unboxed=True)
    evil = bed.root.parent / "evil"
    evil.write_text(EVIL)
    evil.chmod(0o755)
    (bed.root.parent / "secret").write_text(f'{{"status": "failed", "summary": "{SECRET}"}}')
    bed.make(PRELUDE, config=CONFIG.format(timeout=60))
    owner = settings_of(bed.repo)
    try:
        pid = bed.start()
        for turn, honest in zip(TURNS, HONEST[:-1], strict=True):
            if turn is AT_THE_DEADLINE:
                bed.configure(CONFIG.format(timeout=1.5))
                bed.cli("reload")
            drop(bed, {honest: ("work", "merged"), **turn})
        drop(bed, {HONEST[-1]: ("work", "merged")})
        tasks = {task["name"]: task for task in bed.json("list")}
        yield Aftermath(bed, pid, owner, tasks)
    finally:
        bed.stop()
        for pid in left_behind(bed):
            os.kill(pid, signal.SIGKILL)


def test_each_deed_ends_as_it_must_and_honest_work_lands(after: Aftermath) -> None:
    wanted = {name: end for name, (_, end) in DEEDS.items()} | dict.fromkeys(HONEST, "merged")
    odd = {
        name: (found["outcome"] or found["state"], found["reason"])
        for name, found in after.tasks.items()
        if (found["outcome"] or found["state"]) != wanted[name]
    }
    assert odd == {}
    assert after.tasks.keys() == wanted.keys()
    assert "protected paths: guarded.txt" in after.tasks["forges leave"]["reason"]


def test_nothing_that_was_planted_was_run_and_no_process_is_left(after: Aftermath) -> None:
    proof = after.bed.root.parent / "proof"
    assert not proof.exists(), proof.read_text()
    assert left_behind(after.bed) == {}


def test_the_daemon_lives_and_verify_names_the_forged_history_alone(after: Aftermath) -> None:
    bed = after.bed
    status = bed.json("status")
    assert status["daemon"]["pid"] == after.pid
    assert not status["conditions"]
    found = json.loads(bed.run("-C", str(bed.root), "verify", "--json").stdout)["findings"]
    assert {(each["kind"], each["subject"]) for each in found} == {
        ("events.jsonl", after.tasks["forges a verdict"]["id"])
    }


def test_the_repositories_hold_exactly_what_landed_and_are_whole(after: Aftermath) -> None:
    bed = after.bed
    integration = bed.root / ".alluvium" / "integration.git"
    landed = {task["id"] for task in after.tasks.values() if task["outcome"] == "merged"}
    assert set(bed.landed_task_ids()) == landed
    files = set(bed.git("ls-tree", "--name-only", "main").split("\n"))
    assert {f"{task}.txt" for task in landed} <= files
    assert not {"guarded.txt", "litter"} & files
    assert bed.base_file("AGENTS.md") != "spoilt"
    assert bed.git("status", "--porcelain") == ""
    assert settings_of(bed.repo) == after.owner
    for place in (bed.repo, integration):
        bed.git("fsck", "--full", "--strict", cwd=place)
    kept = bed.git("for-each-ref", "--format=%(refname)", "refs/alluvium/tasks", cwd=integration)
    open_ones = {task["id"] for task in after.tasks.values() if task["state"] != "done"}
    assert {ref.rsplit("/", 1)[1] for ref in kept.split()} <= open_ones
    assert bed.git("rev-parse", "refs/heads/main", cwd=integration) == bed.git("rev-parse", "main")


def test_output_is_capped_and_no_secret_is_told(after: Aftermath) -> None:
    bed = after.bed
    for name in ("prints without measure", "prints for ever"):
        kept = bed.folder(name) / ".system" / "attempts" / "1" / "stdout.log"
        assert LIMIT < kept.stat().st_size < LIMIT + 200
        assert b"the rest was dropped" in kept.read_bytes()[-200:]
    for name in ("result that leads outside", "question that leads outside"):
        assert SECRET not in bed.cli("show", after.tasks[name]["id"], "--json")
