"""What `status` shows: read from store, board, folders and lock, with the daemon up or down."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from alluvium_like.clock import utc_now
from alluvium_like.errors import ConfigError, PlaceLost
from alluvium_like.lock import is_locked, shown_pid
from alluvium_like.store.reader import StoreReader
from alluvium_like.surface.client import is_silent
from alluvium_like.task import REPOSITORY, Parked
from alluvium_like.trouble import Told, Trouble, explain, read_board
from alluvium_like.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that holds for the daemon as a whole."""

    name: str
    reason: str
    since: str


@dataclass(frozen=True, slots=True)
class Status:
    """The whole picture at one moment; `landing` tells why what is proven cannot land yet, `parked`
    which agents cannot work now.
    """

    root: Path
    running: bool
    hung: bool
    pid: int | None
    tasks: dict[str, int]
    outcomes: dict[str, int]
    inbox: int
    quarantine: int
    base_branch: str
    landing: str
    conditions: tuple[Notice, ...]
    degraded: tuple[Told, ...]
    parked: tuple[Parked, ...]

    @property
    def state(self) -> str:
        """The daemon in one word: stopped, running, degraded for want of something, or hung."""
        if not self.running:
            return "stopped"
        if self.hung:
            return "hung"
        return "degraded" if self.degraded else "running"

    def document(self) -> dict[str, object]:
        """Return the shape that scripts rely on."""
        return {
            "daemon": {
                "running": self.running,
                "state": self.state,
                "pid": self.pid,
                "workspace": str(self.root),
            },
            "degraded": [asdict(told) for told in self.degraded],
            "tasks": self.tasks,
            "outcomes": self.outcomes,
            "inbox": self.inbox,
            "quarantine": self.quarantine,
            "base_branch": self.base_branch,
            "landing": self.landing or None,
            "conditions": [asdict(condition) for condition in self.conditions],
            "parked": [asdict(parked) for parked in self.parked],
        }


def read_status(workspace: Workspace) -> Status:
    """Read the status, and ask the daemon for a sign of life.

    Raises StoreError when the store cannot be read, WorkspaceError when it is gone.
    """
    running = is_locked(workspace)
    if not running:
        workspace.require_store()
    with StoreReader(workspace.database, older=True) as store:
        return Status(
            root=workspace.root,
            running=running,
            hung=running and is_silent(workspace),
            pid=shown_pid(workspace) if running else None,
            tasks=store.counts(),
            outcomes=store.outcomes(),
            inbox=_count(workspace.inbox, *_told_to_ignore(store)),
            quarantine=_count(workspace.quarantine, (".",), ()),
            base_branch=store.base_branch(),
            landing=next((row["reason"] for row in store.waiting_to_land(REPOSITORY)), ""),
            conditions=tuple(
                Notice(row["name"], row["reason"], row["since"]) for row in store.conditions()
            ),
            degraded=_degraded(workspace) if running else (),
            parked=_parked(workspace, store),
        )


def _parked(workspace: Workspace, store: StoreReader) -> tuple[Parked, ...]:
    """Return the agents that cannot work now, of those that config.toml has."""
    rows = tuple(row for row in store.parked() if row.until > utc_now())
    if not rows:
        return ()
    from alluvium_like.config import load_config  # slow, and seldom needed

    try:
        known = load_config(workspace.config_file).profiles
    except ConfigError:
        return rows
    return tuple(row for row in rows if row.agent in known)


def _degraded(workspace: Workspace) -> tuple[Told, ...]:
    """Return what the daemon lacks; without its own folder it cannot show that itself."""
    if workspace.lock_file.exists():
        return read_board(workspace.board)
    gone = PlaceLost(f"{workspace.lock_file}: was moved away or removed under the daemon")
    return (Told(Trouble.FOLDERS, explain(Trouble.FOLDERS, gone), utc_now()),)


def ignored_names(workspace: Workspace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the prefixes and suffixes of items that are left in the inbox.

    They are as the daemon was last told, so no valid configuration is needed.
    """
    with StoreReader(workspace.database, older=True) as store:
        return _told_to_ignore(store)


def _told_to_ignore(store: StoreReader) -> tuple[tuple[str, ...], tuple[str, ...]]:
    told = store.meta("ignored_names")
    if not told:
        from alluvium_like.config import Config  # slow, and only needed before the first start

        safety = Config().safety
        return safety.ignore_name_prefixes, safety.ignore_name_suffixes
    prefixes, suffixes = json.loads(told)
    return tuple(prefixes), tuple(suffixes)


def _count(folder: Path, prefixes: tuple[str, ...], suffixes: tuple[str, ...]) -> int:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed, and quick
    except OSError:
        return 0
    return sum(not (n.startswith(prefixes) or n.endswith(suffixes)) for n in names)
