"""What must hold after every fault: looked at from outside, with SQLite, git and /proc alone.

Called once the daemon has nothing left to do and was stopped. Only `verify` is the product's own;
everything else is asked of the files themselves, so that a daemon that fools itself is seen. Each
violation is one sentence.
"""

import hashlib
import os
import sqlite3
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.marker import marked_processes, marker_of
from alluvium_like.lifecycle import ENDED
from alluvium_like.surface.verify import verify
from alluvium_like.task import display_name
from alluvium_like.workspace import Workspace

_LEFTOVERS = (".lock", ".tmp", ".part", ".placing")
_OURS_FOR_EVER = "daemon.lock"
_TRAILER = "Task-Id"


@dataclass(frozen=True, slots=True)
class Drop:
    """One item as it was dropped: the name that people see, and what it held (`fingerprint`)."""

    name: str
    content: str

    @classmethod
    def of(cls, path: Path) -> "Drop":
        """Describe an item that lies somewhere, to be called before the daemon can take it."""
        return cls(display_name(os.fsencode(path.name)), fingerprint(path))


@dataclass(frozen=True, slots=True)
class Life:
    """What happened in a workspace, as known from outside the daemon.

    `tested`: the file to which the tests append the tree (`git rev-parse HEAD^{tree}`) whenever
    they pass; None where nothing is tested. `remote`: the bare repository that is pushed to, with
    `core.logAllRefUpdates`. `clears`: housekeeping may have taken folders of ended tasks.
    `moved_back`: the owner or others rewrote the base on purpose.
    """

    root: Path
    dropped: Sequence[Drop]
    repo: Path
    base: str = "main"
    tested: Path | None = None
    remote: Path | None = None
    clears: bool = False
    moved_back: bool = False


def fingerprint(path: Path) -> str:
    """Return what an item is and holds, byte for byte; links are not followed."""
    digest = hashlib.sha256()
    for line in sorted(_lines(path, b"")):
        digest.update(line + b"\0")
    return digest.hexdigest()


def violations(life: Life) -> list[str]:
    """Return what does not hold, in words; empty where all is well."""
    workspace = Workspace(life.root)
    if not workspace.database.exists():
        return ["there is no store"]
    with closing(sqlite3.connect(f"{workspace.database.as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        checks = (
            *(f"the database: {row[0]}" for row in db.execute("PRAGMA integrity_check")),
            *(f"the database: {tuple(row)}" for row in db.execute("PRAGMA foreign_key_check")),
            *_places(life, workspace, db),
            *(f"a claim was left: {row['task_id']}" for row in db.execute("SELECT * FROM claims")),
            *_processes(life, db),
            *_landed(life, db),
            *_attempts(db),
            *_workshops(workspace, db),
        )
    return [
        *(check for check in checks if check != "the database: ok"),
        *(f"verify: {finding.line}" for finding in verify(workspace, running=False)),
        *_history(life),
        *leftovers(life),
    ]


def processes_of(root: Path) -> list[ProcessIdentity]:
    """Return the living processes of a workspace's runs, the daemon's gits included, by mark."""
    database = Workspace(root).database
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as db:
        try:
            rows = db.execute("SELECT value FROM meta WHERE key = 'workspace_id'").fetchall()
        except sqlite3.OperationalError:
            return []  # the schema is still to be made
    return [process for (mark,) in rows for process in marked_processes(mark)]


def leftovers(life: Life) -> Iterator[str]:
    """Yield half-written files and locks that nobody will ever take away."""
    trash, warm = Workspace(life.root).trash, Workspace(life.root).warm
    others = [life.repo, *filter(None, [life.remote])]
    places = [life.root, life.repo] if not life.repo.is_relative_to(life.root) else [life.root]
    for place in [*places, *filter(None, [life.remote])]:
        for folder, folders, files in os.walk(place):
            here = Path(folder)
            if here in (trash, warm) or here.name in ("input", "workshop.git"):  # as they were left
                folders.clear()
                continue
            for name in (*files, *folders):
                half = name.endswith(_LEFTOVERS)
                if not any(map(here.is_relative_to, others)):  # there it is their git that prunes
                    half |= name.startswith(("tmp_obj_", "tmp_pack_"))
                if half and name != _OURS_FOR_EVER:
                    yield f"a leftover: {here / name}"


# -- items -------------------------------------------------------------------------------------


def _lines(path: Path, inside: bytes) -> Iterator[bytes]:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        yield b"folder " + inside
        for child in sorted(path.iterdir()):
            yield from _lines(child, inside + b"/" + os.fsencode(child.name))
    elif stat.S_ISREG(mode):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        yield b"file %b %b" % (inside, content.encode())
    elif stat.S_ISLNK(mode):
        yield b"link %b %b" % (inside, os.fsencode(path.readlink()))
    else:
        yield b"special %b %d" % (inside, stat.S_IFMT(mode))


def _places(life: Life, workspace: Workspace, db: sqlite3.Connection) -> Iterator[str]:
    """Yield each dropped item that is not whole in exactly one place, and what nobody dropped."""
    wanted, found = Counter(life.dropped), Counter[Drop]()
    for place, candidates in _found(workspace, db):
        known = [drop for drop in candidates if drop in wanted]
        found.update(known[:1])
        if not known and candidates:
            yield f"something that nobody dropped, or not whole: {place}"
    for drop, count in wanted.items():
        here = found[drop]
        if here < count and life.clears:
            here += _cleared(workspace, db, drop.name)
        if here != count:
            yield f"{drop.name} was dropped {count} times and is in {here} places"


def _found(workspace: Workspace, db: sqlite3.Connection) -> Iterator[tuple[Path, list[Drop]]]:
    """Yield every place that may hold an item, and what the item there may be."""
    for item in workspace.inbox.iterdir():
        if not item.name.startswith("."):
            yield item, [Drop.of(item)]
    for folder in workspace.quarantine.iterdir():
        notes = {"reason.txt", "why-in-quarantine.txt"}
        items = [Drop.of(item) for item in folder.iterdir()]
        yield folder, [drop for drop in items if drop.name not in notes] or items
    rows = db.execute("SELECT id, name FROM tasks WHERE kind = 'item'")
    names = {row["id"]: row["name"] for row in rows}
    others = {row["id"] for row in db.execute("SELECT id FROM tasks WHERE kind <> 'item'")}
    for folder in workspace.tasks.iterdir():
        given = folder / "input"
        if folder.name in others or not given.is_dir():
            continue
        as_folder = Drop(names.get(folder.name, ""), fingerprint(given))
        inside = list(given.iterdir())
        yield folder, [as_folder, *(Drop.of(item) for item in inside if len(inside) == 1)]


def _cleared(workspace: Workspace, db: sqlite3.Connection, name: str) -> int:
    rows = db.execute("SELECT id, state FROM tasks WHERE kind = 'item' AND name = ?", (name,))
    return sum(row["state"] in ENDED and not (workspace.tasks / row["id"]).exists() for row in rows)


# -- processes and what they worked in -----------------------------------------------------------


def _processes(life: Life, db: sqlite3.Connection) -> Iterator[str]:
    running = {row["id"] for row in db.execute("SELECT id FROM tasks WHERE state = 'running'")}
    for process in processes_of(life.root):
        mark = marker_of(process.pid) or ""
        _, _, run = mark.partition("/")
        if not any(run.startswith(f"attempt/{task}/") for task in running):
            yield f"a process outlived its run: pid {process.pid}, {mark}"


def _attempts(db: sqlite3.Connection) -> Iterator[str]:
    for row in db.execute(
        "SELECT task_id, number FROM attempts JOIN tasks ON id = task_id "
        "WHERE ended_at IS NULL AND state <> 'running'"
    ):
        yield f"attempt {row['number']} of {row['task_id']} never ended"


def _workshops(workspace: Workspace, db: sqlite3.Connection) -> Iterator[str]:
    running = {row["id"] for row in db.execute("SELECT id FROM tasks WHERE state = 'running'")}
    for folder in (workspace.worktrees, workspace.workshops, workspace.slots):
        for left in folder.iterdir():
            if left.name.partition(".")[0] not in running:
                yield f"nobody works there any more: {left}"


# -- the base ----------------------------------------------------------------------------------


def _landed(life: Life, db: sqlite3.Connection) -> Iterator[str]:
    """Compare rows and base: every task that is merged is there once, and no other."""
    form = f"--format=%H %(trailers:key={_TRAILER},valueonly,separator=%x20)"
    log = [line.split() for line in _git(life.repo, "log", "--first-parent", form, life.base)]
    on_base = Counter(words[1] for words in log if len(words) == 2)
    yield from (f"{task} landed {n} times" for task, n in on_base.items() if n > 1)
    merged = {row["id"] for row in db.execute("SELECT id FROM tasks WHERE outcome = 'merged'")}
    yield from (f"{task} is merged, and the base lacks it" for task in merged - on_base.keys())
    yield from (f"the base holds {task}, which is not merged" for task in on_base.keys() - merged)


def _history(life: Life) -> Iterator[str]:
    """Check by the reflogs that nothing ever moved back, and that what landed was tested."""
    if not life.moved_back:
        for repo in filter(None, (life.repo, life.remote)):
            tips = _git(repo, "log", "-g", "--format=%H", life.base, "--")
            for newer, older in pairwise(tips):
                if newer != older and _code(repo, "merge-base", "--is-ancestor", older, newer):
                    yield f"{life.base} of {repo} went from {older[:10]} to {newer[:10]}"
    if life.tested is None:
        return
    tested = set(life.tested.read_text().split()) if life.tested.exists() else set()
    form = f"--format=%T %h %(trailers:key={_TRAILER},valueonly,separator=%x20)"
    for line in _git(life.repo, "log", "-g", form, life.base, "--"):
        tree, commit, *tasks = line.split()
        if tasks and tree not in tested:
            yield f"{commit} of {tasks[0]} landed untested"


def _git(repo: Path, *words: str) -> list[str]:
    argv = ["git", "-C", str(repo), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=_environment())
    return done.stdout.splitlines()


def _code(repo: Path, *words: str) -> int:
    argv = ["git", "-C", str(repo), *words]
    return subprocess.run(argv, check=False, env=_environment()).returncode


def _environment() -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**plain, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
