"""An agent that does what the item dropped for it says, and tells of it as a real program does.

What is dropped is a shell script. It runs in the worktree, and has the words below: those of codex
as it really spoke, and those of claude, which tells of tokens while it works.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from bed import Bed

from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Attempt, Parked, Task

AGENT = r"""
outputs="$ALLUVIUM_AGENT_DIR/outputs"
echo "$*" >> "$outputs/runs"
run=$(($(wc -l < "$outputs/runs")))
cat > "$outputs/prompt-$run"
begin() {
    printf '{"type":"thread.started","thread_id":"%s"}\n{"type":"turn.started"}\n' "$1"
}
say() {
    printf '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"%s"}}\n' "$1"
}
through() {
    printf '{"type":"turn.completed","usage":{"input_tokens":%d,"output_tokens":%d}}\n' "$1" "$2"
}
trouble() {
    printf '{"type":"error","message":"%s"}\n{"type":"turn.failed","error":{"message":"%s"}}\n' \
        "$1" "$1"
    exit 1
}
init() {
    printf '{"type":"system","subtype":"init","session_id":"%s","model":"%s"}\n' "$1" "$2"
    printf '{"type":"assistant","message":{"role":"assistant",'
    printf '"content":[{"type":"text","text":"hello"}]}}\n'
}
uses() {
    printf '{"type":"stream_event","event":{"type":"message_start","message":{"usage":'
    printf '{"input_tokens":%d}}}}\n' "$1"
}
result() {
    printf '{"type":"result","subtype":"success","is_error":false,"result":"done",'
    printf '"total_cost_usd":%s,"usage":{"input_tokens":%d}}\n' "$1" "$2"
}
work() {
    echo "$1" >> "$ALLUVIUM_TASK_ID.txt"
}
wait_for() {
    while [ ! -e "$outputs/$1" ]; do sleep 0.02; done
}
. "$ALLUVIUM_TASK_DIR"/input/*
"""
WORKS = "begin t; say working; work done; through 10 1"


def store(bed: Bed) -> StoreReader:
    return StoreReader(bed.root / ".alluvium" / "alluvium.db")


def task(bed: Bed, name: str) -> Task:
    with store(bed) as reader:
        (found,) = [each for each in reader.tasks() if each.name == name]
        return found


def attempts(bed: Bed, name: str) -> list[Attempt]:
    found = task(bed, name)
    with store(bed) as reader:
        return reader.attempts(found.id)


def outcomes(bed: Bed, name: str) -> list[tuple[str, str]]:
    """Return the agent and the outcome of each attempt."""
    return [(each.agent, each.outcome) for each in attempts(bed, name)]


def parked(bed: Bed) -> dict[str, Parked]:
    with store(bed) as reader:
        return {row.agent: row for row in reader.parked()}


def wait_until_parked(bed: Bed, agent: str) -> Parked:
    bed.wait(lambda: agent in parked(bed), f"{agent} parked")
    return parked(bed)[agent]


def outputs(bed: Bed, name: str) -> Path:
    return bed.folder(name) / ".agent" / "outputs"


def runs(bed: Bed, name: str) -> list[str]:
    """Return the arguments of each run."""
    return (outputs(bed, name) / "runs").read_text().splitlines()


def work_of(bed: Bed, name: str) -> str:
    """Return what the task's branch holds of its work."""
    found = task(bed, name)
    store = bed.root / ".alluvium" / "integration.git"
    return bed.git("show", f"{found.head_commit}:{found.id}.txt", cwd=store)


def choose(bed: Bed, name: str, agent: str) -> None:
    """Choose the agent of a task that waits; what wakes the daemon next lets it see that."""
    with closing(sqlite3.connect(bed.root / ".alluvium" / "alluvium.db", timeout=30)) as db, db:
        db.execute("UPDATE tasks SET agent = ? WHERE name = ?", (agent, name))


def drop_for(bed: Bed, agent: str, name: str, text: str) -> None:
    """Drop an item for one agent."""
    bed.cli("pause")
    bed.drop(name, text)
    bed.wait_for(name, "queued")
    choose(bed, name, agent)
    bed.cli("resume")


def transcript(bed: Bed, name: str, attempt: int = 1) -> list[dict[str, object]]:
    path = bed.folder(name) / ".system" / "attempts" / str(attempt) / "transcript.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
