"""What a soak throws at the daemon: items of every kind, dropped in every manner, and their ends.

What an item asks for stands in its first line, `<kind> <number>`; the agent does as it says, by
what lies before it alone, so that the end of each kind is known however often it was disturbed.
"""

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from invariants import Drop, fingerprint

from alluvium_like.store.reader import StoreReader
from alluvium_like.task import display_name
from alluvium_like.workspace import Workspace

AGENT = """
item=$(cat "$ALLUVIUM_TASK_DIR"/input/* 2>/dev/null | head -1) || true
set -- ${item:-nothing 0}
hold() { while [ ! -e "PLACE/go-on" ]; do sleep 0.05; done; }
work() { mkdir -p items; echo "$2" > "items/$2"; }
commit() { git add -A; git diff --cached --quiet || git commit -q -m "Do $1"; }
case "$1" in
    plain) work "$@"; commit "$2";;
    dirty) work "$@";;
    branch) git checkout -q -b "elsewhere-$2"; work "$@"; commit "$2";;
    slow) sleep "0.$2"; work "$@"; commit "$2"; sleep "0.$2";;
    hang) hold; work "$@"; commit "$2";;
    fork)
        setsid setsid sh -c 'trap "" TERM; while :; do sleep 0.1; done' > /dev/null 2>&1 &
        work "$@"; commit "$2";;
    loud) head -c 3000000 /dev/zero | tr '\\0' x; work "$@"; commit "$2";;
    junk) head -c 5000 /dev/urandom > "$ALLUVIUM_AGENT_DIR/result.json"; work "$@"; commit "$2";;
    fail) work "$@"; commit "$2"; exit 3;;
    line)
        sed -i '/^[<=>|]\\{7\\}/d' journal
        grep -qx "line $2" journal || echo "line $2" >> journal
        commit "$2";;
    red)
        if [ -e "bad-$2" ]; then git rm -q "bad-$2"; work "$@"; else echo > "bad-$2"; fi
        commit "$2";;
    flaky) echo > "flaky-$2"; work "$@"; commit "$2";;
    ask)
        if ! grep -q blue "$ALLUVIUM_PROMPT_FILE"; then
            echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"; exit 0
        fi
        work "$@"; commit "$2";;
    leave)
        if grep -q Rejected "$ALLUVIUM_PROMPT_FILE"; then rm -rf ".github/$2"
        else mkdir -p .github; echo on > ".github/$2"; fi
        work "$@"; commit "$2";;
esac
"""
TEST = """
for f in bad-*; do test ! -e "$f" || exit 1; done
for f in flaky-*; do
    if [ -e "$f" ] && [ ! -e "PLACE/$f" ]; then : > "PLACE/$f"; exit 1; fi
done
git rev-parse 'HEAD^{tree}' >> 'PLACE/tested'
"""
KINDS = {
    **dict.fromkeys(("plain", "line", "slow"), 4),
    **dict.fromkeys(("dirty", "hang", "fork", "fail", "red", "flaky", "ask", "leave"), 2),
    **dict.fromkeys(("branch", "loud", "junk", "nothing"), 1),
}
_ODD_NAMES = (b"new\nline", b"-dash", b"\xff\xfe", "ünï".encode(), b"n" * 200)
_AGAIN, _WITHOUT_WORDS, _ODD = 0.08, 0.06, 0.1  # shares of the items
_LINES, _WRITES, _PAUSE_SECONDS = 20, 6, 0.05


@dataclass(frozen=True, slots=True)
class Wish:
    """One item: what it asks for, and its name in the inbox."""

    kind: str
    number: int
    name: bytes

    @property
    def text(self) -> bytes:
        """What the item says; more than one write long."""
        return b"%s %d\n" % (self.kind.encode(), self.number) + b"please\n" * _LINES


class Crowd:
    """Those who drop items into the inbox."""

    def __init__(self, workspace: Workspace, staging: Path, rng: random.Random) -> None:
        self.dropped: list[Drop] = []
        self.wishes: dict[str, Wish] = {}
        self._inbox = workspace.inbox
        self._staging = staging
        self._rng = rng
        self._writers: list[threading.Thread] = []
        staging.mkdir()

    def drop(self) -> str:
        """Drop one item in one manner; return what was done."""
        rng = self._rng
        manners = [self._renamed, self._slowly, self._folder, self._open_folder]
        if self.wishes and rng.random() < _AGAIN:
            wish = rng.choice(list(self.wishes.values()))
        elif rng.random() < _WITHOUT_WORDS:
            wish, manners = self._new_wish("nothing"), [self._link, self._pipe]
        else:
            wish = self._new_wish(*rng.choices(list(KINDS), list(KINDS.values())))
        path = self._inbox / os.fsdecode(wish.name)
        if os.path.lexists(path):
            return "drop of a name that is still there"
        manner = rng.choice(manners)
        self.wishes[display_name(wish.name)] = wish
        manner(wish, path)
        return f"drop {manner.__name__.strip('_')}"

    def submit(self, tell: Callable[..., bool]) -> str:
        """Drop one item through the command line; `tell` runs a command."""
        wish = self._new_wish("plain")
        staged = self._stage(wish)
        if not tell("submit", "--name", os.fsdecode(wish.name), "--", str(staged)):
            return "submit refused"
        self.wishes[display_name(wish.name)] = wish
        self._note(wish, staged)
        return "submit"

    def finish(self) -> None:
        """Wait until every slow writer has closed its file."""
        for writer in self._writers:
            writer.join()

    def _new_wish(self, kind: str) -> Wish:
        number = len(self.dropped) + 1
        odd = self._rng.choice(_ODD_NAMES) if self._rng.random() < _ODD else b"item"
        return Wish(kind, number, b"%b-%s-%d" % (odd, kind.encode(), number))

    def _note(self, wish: Wish, whole: Path) -> None:
        self.dropped.append(Drop(display_name(wish.name), fingerprint(whole)))

    def _place(self) -> Path:
        return self._staging / str(len(self.dropped))

    def _stage(self, wish: Wish) -> Path:
        path = self._place()
        path.write_bytes(wish.text)
        return path

    def _stage_folder(self, wish: Wish) -> Path:
        path = self._place()
        (path / "deep" / "er").mkdir(parents=True)
        (path / "deep" / "er" / "file").write_bytes(os.urandom(100))
        (path / "a-request").write_bytes(wish.text)
        return path

    def _renamed(self, wish: Wish, path: Path) -> None:
        staged = self._stage(wish)
        self._note(wish, staged)
        staged.rename(path)

    def _folder(self, wish: Wish, path: Path) -> None:
        staged = self._stage_folder(wish)
        self._note(wish, staged)
        staged.rename(path)

    def _link(self, wish: Wish, path: Path) -> None:
        staged = self._place()
        staged.symlink_to("/nowhere")
        self._note(wish, staged)
        staged.rename(path)

    def _pipe(self, wish: Wish, path: Path) -> None:
        staged = self._place()
        os.mkfifo(staged)
        self._note(wish, staged)
        staged.rename(path)

    def _slowly(self, wish: Wish, path: Path) -> None:
        """Write a file where it is seen; the daemon can tell that it is still open."""
        self._note(wish, self._stage(wish))
        self._begin(path.open("wb", buffering=0), wish.text)

    def _open_folder(self, wish: Wish, path: Path) -> None:
        """Move a folder in while a file in it is still being written."""
        staged = self._stage_folder(wish)
        self._note(wish, staged)
        stream = (staged / "a-request").open("wb", buffering=0)
        staged.rename(path)
        self._begin(stream, wish.text)

    def _begin(self, stream: BinaryIO, text: bytes) -> None:
        size = len(text) // _WRITES

        def write() -> None:
            with stream:
                for start in range(0, len(text), size):
                    stream.write(text[start : start + size])
                    time.sleep(_PAUSE_SECONDS)

        self._writers.append(threading.Thread(target=write))
        self._writers[-1].start()


def wrong_ends(
    workspace: Workspace, wishes: Mapping[str, Wish], cancelled: set[str]
) -> Iterator[str]:
    """Yield each task whose end is not that of its kind, and each work that main should hold."""
    with StoreReader(workspace.database) as store:
        tasks = store.tasks()
    back = {task.reverts for task in tasks if task.outcome == "merged"}
    undone = {wishes[t.name].number for t in tasks if t.id in back and t.name in wishes}
    for task in tasks:
        wish = wishes.get(task.name)
        wanted = "failed" if wish is not None and wish.kind == "fail" else "done"
        if task.id in cancelled:
            wanted = "cancelled"
        if task.state != wanted:
            yield f"{task.id} should be {wanted} and is {task.state}: {task.reason}"
        if wish is not None and task.outcome == "merged" and wish.number not in undone:
            if wish.kind == "line":
                held = _on_main(workspace, "journal").splitlines().count(f"line {wish.number}")
            else:
                held = _on_main(workspace, f"items/{wish.number}") == f"{wish.number}\n"
            if held != 1:
                yield f"main does not hold the work of {task.id} once: {held}"


def _on_main(workspace: Workspace, path: str) -> str:
    argv = ["git", "-C", str(workspace.repo), "show", f"main:{path}"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
