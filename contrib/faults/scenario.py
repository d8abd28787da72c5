"""One rich and quick life: every way that a task can go, through one workspace in some seconds.

What the agent does follows from what lies before it alone, never from how often it was called; so
each life ends in the same state, however often the daemon was disturbed.
"""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from invariants import Drop
from scene import Rule, Scene, Seen

from alluvium_like.workspace import Workspace

# `right` begins before `left` has landed and ends after it, so both write the same new file.
_AGENT = """
hold() { while [ ! -e "$1" ]; do sleep 0.02; done; }
asked() { [ -e "$ALLUVIUM_AGENT_DIR/revision_request.md" ] || exit 9; }
item=$(ls "$ALLUVIUM_TASK_DIR/input" | head -1)
case "$item" in
    nothing) exit 0;;
    left) hold @/right-began; echo left > shared;;
    right)
        if grep -q left shared 2>/dev/null; then
            if grep -q '<<<' shared; then asked; fi
            printf 'left\\nright\\n' > shared
        else
            touch @/right-began; hold @/left-landed; echo right > shared
        fi;;
    ask)
        if ! grep -q blue "$ALLUVIUM_PROMPT_FILE"; then
            echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"; exit 0
        fi
        echo blue > colour;;
    stumble) [ -e @/may-succeed ] || exit 3; echo up > stumble;;
    red) if [ -e bad ]; then asked; git mv bad good; else echo bad > bad; fi;;
    hang) touch @/hangs; hold @/never;;
    leave) mkdir -p .github; echo on > .github/workflow;;
    part) echo uncommitted > bundle; exit 0;;
    *) echo work > "$item";;
esac
git add -A
git commit -q -m "Do $item"
"""
_SETTINGS = """
[integration]
run_tests = ["test ! -e bad && git rev-parse HEAD^{tree} >> @/tested"]
parallel_tests = 2
push = "origin"
[retention]
attempts_days = 0.000001
[safety]
max_workers = 4
"""
_FILES = ("plain", "nothing", "left", "right", "ask", "stumble", "red", "hang", "leave", "undo")
_FIRST = (*_FILES, "bundle", "revert-undo")
_OWN_COUNT = frozenset({"right", "hang"})
"""Where a crash may rightly change how many attempts count: `right` may come to start above `left`,
and `hang` may be cancelled between two attempts."""


class Rich(Scene):
    """Files, a folder and a FIFO; work that lands, is nothing, conflicts, asks, fails, is red, is
    cancelled, needs leave, is taken back; a remote with others at it; reload and housekeeping.
    """

    agent = _AGENT
    settings = _SETTINGS

    def drop_all(self) -> None:
        """Drop everything but `late`."""
        for name in _FILES:
            self.drop(name)
        bundle = self.bed.inbox / "bundle"
        (bundle / "part").mkdir(parents=True)
        (bundle / "part" / "deep").write_text("deep")
        os.mkfifo(self.bed.inbox / "pipe")
        self.dropped += [Drop.of(bundle), Drop.of(self.bed.inbox / "pipe")]

    def rules(self) -> Sequence[Rule]:
        """Return what a person does."""

        def on(name: str, state: str) -> Callable[[Seen], bool]:
            return lambda seen: seen.states(name) == {state}

        def tell(method: str, name: str, **params: str) -> Callable[[Seen], object]:
            return lambda seen: self.tell(method, task_id=seen.tasks[name]["id"], **params)

        def retry(seen: Seen) -> None:
            (self.bed.open / "may-succeed").touch()
            tell("retry", "stumble")(seen)

        landed = self.bed.open / "left-landed"
        return (
            Rule("left landed", on("left", "done"), lambda _: landed.touch(), told=False),
            Rule("answer", on("ask", "needs_human"), tell("answer", "ask", text="blue")),
            Rule("approve", on("leave", "needs_human"), tell("approve", "leave")),
            Rule("retry", on("stumble", "failed"), retry),
            Rule("cancel", self._hangs, tell("cancel", "hang")),
            Rule("revert", self._may_revert, tell("revert", "undo")),
            Rule("others push", self._is_quiet, self._push_by_others),
            Rule("late", self._others_are_in, lambda _: self.drop("late")),
            Rule("gc", self._is_late_over, lambda _: self.tell("gc")),
        )

    def is_over(self, seen: Seen) -> bool:
        """Tell whether the last rule was followed and the remote has everything."""
        over = seen.states("late") == {"done"} and not seen.conditions
        return over and bool(self.acknowledged["gc"]) and self.is_even()

    def end_state(self) -> dict[str, object]:
        """Return where every task ended and how, what the base holds, what people were asked."""
        with closing(sqlite3.connect(Workspace(self.root).database)) as db:
            tasks = {
                name: [*row, [] if name in _OWN_COUNT else _verdicts(db, task_id)]
                for task_id, name, *row in db.execute(
                    "SELECT id, name, state, outcome, kind, "
                    "(SELECT group_concat(kind || ': ' || coalesce(answer, '')) "
                    "FROM checkpoints WHERE task_id = tasks.id) FROM tasks ORDER BY name"
                )
            }
        reasons = [path.read_text() for path in self.root.glob("quarantine/*/reason.txt")]
        return {
            "tasks": tasks,
            "base": self.base_files(),
            "commits on the base": int(self.bed.git("rev-list", "--count", "main")),
            "changed by nobody": self.bed.git("status", "--porcelain"),
            "quarantine": [reason.split("time:")[0] for reason in sorted(reasons)],
            "remote is even": self.is_even(),
        }

    # -- when ----------------------------------------------------------------------------------

    def _hangs(self, seen: Seen) -> bool:
        return (self.bed.open / "hangs").exists() and seen.states("hang") <= {"running", "queued"}

    def _may_revert(self, seen: Seen) -> bool:
        return seen.states("undo") == {"done"} and seen.states("revert-undo") == {""}

    def _is_quiet(self, seen: Seen) -> bool:
        """Tell whether all of the first part is over and pushed."""
        over = seen.states(*_FIRST) == {"done", "cancelled"}
        return over and not self.acknowledged["others push"] and self.is_even()

    def _others_are_in(self, seen: Seen) -> bool:
        waits = self.acknowledged["others push"] and not self.acknowledged["late"]
        return bool(waits) and any(line.startswith("others ") for line in self.base_files())

    def _is_late_over(self, seen: Seen) -> bool:
        return seen.states("late") == {"done"} and not self.acknowledged["gc"]

    def _push_by_others(self, _: Seen) -> None:
        """Let others commit at the remote, and have the daemon look by a reload."""
        git = partial(self.bed.git, cwd=self.origin)
        if "others" not in git("ls-tree", "--name-only", "main").splitlines():
            blob = git("rev-parse", "main:AGENTS.md")
            tree = subprocess.run(
                ["git", "mktree"],
                cwd=self.origin,
                env=self.bed.environment,
                input=f"{git('ls-tree', 'main')}\n100644 blob {blob}\tothers\n",
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            commit = git("commit-tree", tree, "-p", "main", "-m", "others' work")
            git("update-ref", "-m", "push", "refs/heads/main", commit)
        self.configure(self.settings.replace("max_workers = 4", "max_workers = 3"))
        self.tell("reload")


def _verdicts(db: sqlite3.Connection, task_id: str) -> list[str]:
    """Return how the attempts of a task ended that count."""
    rows = db.execute(
        "SELECT verdict FROM attempts WHERE task_id = ? AND verdict <> 'again_uncounted' "
        "ORDER BY number",
        (task_id,),
    )
    return [verdict for (verdict,) in rows]
