"""A busy night with honest agents and a busy owner: the escape detector says nothing."""

import json
import subprocess
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from bed import Bed

pytestmark = pytest.mark.unboxed

pytestmark = pytest.mark.timeout(300)
TASKS = 24
MOVES = 30
AGENT = """
name="$(ls "$ALLUVIUM_TASK_DIR/input" | tail -n 1)"; number="${name##*-}"
echo "$ALLUVIUM_TASK_ID" > "$ALLUVIUM_TASK_ID.txt"
case $((number % 6)) in
    0)  # contradicts others, and resolves it in a revision
        printf '%s\\n' "$name" > shared.txt ;;
    1)  # several branches, none of which holds the others
        git checkout -q -b "aside-$number"; echo x > "aside-$number"; git add -A
        git commit -q -m aside; git checkout -q "$ALLUVIUM_BRANCH"; echo y > "more-$number" ;;
    2)  # fails its tests at first
        [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ] || echo x > "red-$number"
        [ ! -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ] || git rm -q "red-$number" ;;
    3)  # fails at first
        [ -e "$ALLUVIUM_TASK_DIR/again" ] || { touch "$ALLUVIUM_TASK_DIR/again"; exit 1; } ;;
    4)  head -c 30000 /dev/urandom > "big-$number" ;;
    5)  git gc -q; rm -rf "$ALLUVIUM_TASK_DIR/input/cache"; mkdir "$ALLUVIUM_TASK_DIR/input/c" ;;
esac
git add -A; git commit -q -m "Work of $name"
"""
CONFIG = """
[agent]
retries = 2
[safety]
max_workers = 3
[integration]
push = "origin"
parallel_tests = 2
max_revision_rounds = 9
run_tests = ["! ls red-* 2>/dev/null", "true"]
"""


def test_a_busy_queue_and_a_busy_owner_raise_no_alarm(bed: Bed) -> None:
    bed.make(AGENT, config=CONFIG)
    origin = bed.root.parent / "origin.git"
    bed.git("init", "-q", "--bare", "-b", "main", str(origin), cwd=bed.root.parent)
    bed.git("remote", "add", "origin", str(origin))
    bed.git("push", "-q", "origin", "main")
    others = _clone(bed, origin)
    bed.commit({"shared.txt": "start\n"})
    bed.start()
    for number in range(TASKS):
        bed.drop(f"item-{number}")
    for number in count():
        _owner(bed, number)
        if number % 6 == 3:
            _push_as_others(bed, others, f"others-{number}")
        if number >= MOVES and _is_idle(bed):
            break
    lines = (bed.root / "logs" / "daemon.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [each for each in events if each["event"] == "escape_found"] == []
    assert not [c for c in bed.json("status")["conditions"] if c["name"] == "escape"]
    assert any(each["event"] == "owner_changed_settings" for each in events)
    assert len(bed.landed_task_ids()) >= TASKS // 2


def _clone(bed: Bed, origin: Path) -> Path:
    clone = bed.root.parent / "others"
    bed.git("clone", "-q", str(origin), str(clone), cwd=bed.root.parent)
    return clone


def _push_as_others(bed: Bed, clone: Path, name: str) -> None:
    """Commit and push, unless the daemon is quicker."""
    bed.git("fetch", "-q", cwd=clone)
    bed.git("reset", "-q", "--hard", "origin/main", cwd=clone)
    (clone / name).write_text("x")
    bed.git("add", "-A", cwd=clone)
    bed.git("commit", "-q", "-m", "others' work", cwd=clone)
    with suppress(subprocess.CalledProcessError):
        bed.git("push", "-q", "origin", "main", cwd=clone)


def _is_idle(bed: Bed) -> bool:
    status = bed.json("status")
    busy = ("queued", "running", "worker_done", "integrating", "needs_revision")
    return status["inbox"] == 0 and not any(status["tasks"][state] for state in busy)


def _owner(bed: Bed, number: int) -> None:
    match number % 6:
        case 0:
            bed.git("tag", f"v{number}")
        case 1:
            bed.git("branch", f"side-{number}")
            bed.git("branch", "-q", "-u", "origin/main", f"side-{number}")
        case 2:
            bed.git("branch", f"pushed-{number}")
            bed.git("push", "-q", "-u", "origin", f"pushed-{number}")
        case 3:
            bed.git("pack-refs", "--all")
        case 4:
            (bed.repo / f"notes-{number}").write_text("mine")
            with suppress(subprocess.CalledProcessError):  # a landing may hold the index
                bed.git("add", "-A")
                bed.git("commit", "-q", "-m", "Take notes")
        case 5:
            bed.configure(CONFIG.replace("rounds = 9", f"rounds = {9 + number}"))
            bed.cli("reload")
