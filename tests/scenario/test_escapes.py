"""Agents that touch what none may: found, told, and nothing lands until a person has looked."""

from pathlib import Path
from typing import Any

import pytest
from bed import COMMIT, Bed

READY = 'echo x > "$ALLUVIUM_AGENT_DIR/outputs/ready"'
HELD_UP = f'{READY}; while [ ! -e "$ALLUVIUM_TASK_DIR/go" ]; do sleep 0.02; done'
AGENT = f"""
ROOT="${{ALLUVIUM_TASK_DIR%/tasks/*}}"; R="$ROOT/repo"; I="$ROOT/.alluvium/integration.git"
name="$(ls "$ALLUVIUM_TASK_DIR/input" | tail -n 1)"
case "$name" in
    bad*) {HELD_UP}
        . "$ALLUVIUM_TASK_DIR/input/$name" ;;
    slow*) {HELD_UP} ;;
esac
{COMMIT}
"""
VICTIM = 'V="$(echo "$ROOT"/tasks/*-victim-*)"; '
PLAIN = "0123456789012345678901234567890123456789"
DEEDS = {
    "hooks path": ('git -C "$R" config core.hooksPath /tmp/x', "core.hookspath"),
    "filter": ('git -C "$R" config filter.x.clean /tmp/x', "filter.x.clean"),
    "include": ('git -C "$R" config include.path /tmp/x', "include.path"),
    "remote": ('git -C "$R" config remote.origin.url /tmp/x', "remote.origin.url"),
    "worktree settings": (
        'git config -f "$R/.git/config.worktree" core.fsmonitor /tmp/x',
        "core.fsmonitor in config.worktree",
    ),
    "hook": ('echo true > "$R/.git/hooks/pre-commit"', "hooks/pre-commit of the repository"),
    "hook in a linked folder": (
        'mv "$R/.git/hooks" "$R/.git/h"; ln -s h "$R/.git/hooks"',
        "hooks of the repository",
    ),
    "attributes": ('echo "* filter=x" > "$R/.git/info/attributes"', "info/attributes"),
    "base by a file": (f'echo {PLAIN} > "$I/refs/alluvium/base"', "refs/alluvium/base"),
    "base by git": (
        'git -C "$I" update-ref refs/alluvium/base "$(git commit-tree -m x "HEAD^{tree}")"',
        "refs/alluvium/base",
    ),
    "mirror": (
        'c="$(git -C "$I" -c user.name=x -c user.email=x@x commit-tree -m x "main^{tree}")"; '
        'git -C "$I" update-ref refs/heads/main "$c"',
        "refs/heads/main",
    ),
    "packed": ('echo "{PLAIN} refs/tags/x" >> "$I/packed-refs"', "refs/tags/x"),
    "work of another": (
        'git -C "$I" update-ref "$(git -C "$I" for-each-ref --format="%(refname)" '
        'refs/alluvium/tasks)" main',
        "refs/alluvium/tasks/",
    ),
    "alternates": ('echo /tmp/x > "$I/objects/info/alternates"', "objects/info/alternates"),
    "our settings": ('git -C "$I" config core.fsmonitor /tmp/x', "config of integration.git"),
    "our hook": ('cp /bin/true "$I/hooks/reference-transaction"', "hooks/reference-transaction"),
    "input": (VICTIM + 'echo forged > "$V/input/victim"', "input/victim"),
    "history": (VICTIM + 'echo {} >> "$V/.system/events.jsonl"', ".system/events.jsonl"),
    "verdict": (VICTIM + 'echo {} > "$V/.system/verdict.json"', ".system/verdict.json"),
}
DEEDS["packed"] = (DEEDS["packed"][0].format(PLAIN=PLAIN), DEEDS["packed"][1])
DEEDS["base by git"] = (
    'c="$(git -C "$I" -c user.name=x -c user.email=x@x commit-tree -m x "main^{tree}")"; '
    'git -C "$I" update-ref refs/alluvium/base "$c"',
    "refs/alluvium/base",
)


def let(bed: Bed, name: str) -> None:
    (bed.folder(name) / "go").touch()


def ready(bed: Bed, name: str) -> None:
    bed.wait(lambda: any(bed.root.glob(f"tasks/*-{name}-*/.agent/outputs/ready")), name)


def held(bed: Bed) -> list[str]:
    conditions: list[dict[str, Any]] = bed.json("status")["conditions"]
    return [each["reason"] for each in conditions if each["name"] == "escape"]


def logged(bed: Bed, event: str) -> bool:
    return f'"{event}"' in (bed.root / "logs" / "daemon.jsonl").read_text()


@pytest.mark.parametrize("deed", DEEDS)
def test_what_no_agent_may_touch_holds_the_lane_and_names_the_suspect(bed: Bed, deed: str) -> None:
    script, what = DEEDS[deed]
    bed.make(AGENT, config="[safety]\nmax_workers = 1\n[integration]\nstrict = false")
    bed.start()
    bed.drop("bad", script)
    ready(bed, "bad")
    bed.drop("victim")
    bed.wait(lambda: bed.json("status")["tasks"]["queued"] == 1, "claimed")
    if deed == "work of another":
        other = bed.folder("victim").name
        store = bed.root / ".alluvium" / "integration.git"
        pytest.skip(f"{other} {store}") if False else None
    let(bed, "bad")
    task = bed.wait_for("bad", "needs_human", "done", "failed")
    assert task["state"] == "needs_human"
    (reason,) = held(bed)
    assert what in reason
    assert f"{task['id']} ran then without a box" in reason
    assert task["reason"] in reason
    victim = bed.wait_for("victim", "worker_done", "needs_human", "done")
    assert victim["state"] == ("needs_human" if deed == "input" else "worker_done")
    assert bed.landed_task_ids() == []
    bed.cli("resume")
    if deed == "input":
        bed.cli("retry", victim["id"])
    assert bed.wait_for("victim", "done")["outcome"] == "merged"
    bed.drop("next")
    assert bed.wait_for("next", "done")["outcome"] == "merged"
    assert held(bed) == []
