"""Where everything lies in a workspace; the only place that knows its folder names."""

import os
from dataclasses import dataclass
from pathlib import Path

from alluvium_like.errors import PlaceLost, WorkspaceError
from alluvium_like.trouble import trouble_of

CONFIG_NAME = "config.toml"
STATE_NAME = ".alluvium"
SYSTEM_NAME = ".system"
EVENTS_NAME = "events.jsonl"
TESTS_LOG_NAME = "tests.log"


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """One task's folder: `input/` is the person's, `.agent/` the agent's, `.system/` ours."""

    root: Path

    def is_there(self) -> bool:
        """Tell whether the folder is there: nothing is shown in one that was taken away."""
        return os.path.lexists(self.root)

    @property
    def input(self) -> Path:
        """What was dropped; nobody writes it after the claim."""
        return self.root / "input"

    @property
    def agent(self) -> Path:
        """The agent's own folder; nothing in it is ever trusted as state."""
        return self.root / ".agent"

    @property
    def system(self) -> Path:
        """The daemon's projections for people."""
        return self.root / SYSTEM_NAME

    @property
    def prompt(self) -> Path:
        """The prompt of the current attempt."""
        return self.agent / "prompt.md"

    @property
    def events(self) -> Path:
        """The task's history, one JSON object a line."""
        return self.system / EVENTS_NAME

    def attempt(self, number: int) -> Path:
        """Return the folder of one attempt's command and output."""
        return self.system / "attempts" / str(number)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders and files of one workspace; `root` is absolute and resolved."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> "Workspace":
        """Return the workspace at `root`, which need not exist yet."""
        return cls(root.resolve())

    @classmethod
    def find(cls, start: Path) -> "Workspace":
        """Look for a workspace at `start` and in its parents. Raises WorkspaceError."""
        here = start.resolve()
        for folder in (here, *here.parents):
            if (folder / STATE_NAME).is_dir():
                return cls(folder)
        raise WorkspaceError(
            f"{here} is not in a workspace: run 'alluvium-like init' there, or name one with -C"
        )

    @property
    def config_file(self) -> Path:
        """The configuration that people edit."""
        return self.root / CONFIG_NAME

    @property
    def prompt_template(self) -> Path:
        """The prompt template that people may edit; the built-in one serves when it is missing."""
        return self.root / "prompt.md"

    @property
    def inbox(self) -> Path:
        """The public drop zone."""
        return self.root / "inbox"

    @property
    def tasks(self) -> Path:
        """One folder a task; they never move."""
        return self.root / "tasks"

    @property
    def repo(self) -> Path:
        """The default place of the owner's repository."""
        return self.root / "repo"

    @property
    def worktrees(self) -> Path:
        """One Git worktree per active task."""
        return self.root / "worktrees"

    @property
    def quarantine(self) -> Path:
        """What could not be claimed, each with its reason."""
        return self.root / "quarantine"

    @property
    def logs(self) -> Path:
        """The daemon's log folder."""
        return self.root / "logs"

    @property
    def log_file(self) -> Path:
        """The daemon's log, one JSON object a line."""
        return self.logs / "daemon.jsonl"

    @property
    def trial_logs(self) -> Path:
        """What the tests of candidates put out, a file for each run."""
        return self.logs / "tests"

    def trial_log(self, number: int) -> Path:
        """Return the file of one run of the tests."""
        return self.trial_logs / f"{number}.log"

    @property
    def state(self) -> Path:
        """The daemon's own folder."""
        return self.root / STATE_NAME

    @property
    def database(self) -> Path:
        """The store: the only truth."""
        return self.state / "alluvium.db"

    @property
    def lock_file(self) -> Path:
        """Held by flock while a daemon runs; never unlinked."""
        return self.state / "daemon.lock"

    @property
    def pid_file(self) -> Path:
        """Informs people; nothing is decided by it."""
        return self.state / "daemon.pid"

    @property
    def board(self) -> Path:
        """What the machine lacks now, as the daemon that runs sees it; for `status`."""
        return self.state / "daemon.board"

    @property
    def socket(self) -> Path:
        """The control socket, mode 0600."""
        return self.state / "control.sock"

    @property
    def integration(self) -> Path:
        """The daemon's own bare repository."""
        return self.state / "integration.git"

    @property
    def workshops(self) -> Path:
        """One bare repository per active task."""
        return self.state / "workshops"

    @property
    def trash(self) -> Path:
        """Where folders go by rename, to be deleted later."""
        return self.state / "trash"

    @property
    def slots(self) -> Path:
        """Throw-away trees in which candidates are tested."""
        return self.state / "slots"

    @property
    def warm(self) -> Path:
        """Worktrees that wait for the next task."""
        return self.state / "warm"

    @property
    def setups(self) -> Path:
        """What set-ups of worktrees made, kept for the next ones."""
        return self.state / "setups"

    def task(self, task_id: str) -> TaskFolder:
        """Return the folder of one task."""
        return TaskFolder(self.tasks / task_id)

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders that the daemon needs, on one file system: things move by rename."""
        return (
            self.inbox,
            self.tasks,
            self.worktrees,
            self.quarantine,
            self.logs,
            self.trial_logs,
            self.workshops,
            self.trash,
            self.slots,
            self.warm,
            self.setups,
        )

    def mend_folders(self) -> list[Path]:
        """Make those of the daemon's own folders that are missing, and return them.

        Raises PlaceLost where one cannot be used, OSError where the machine is in trouble.
        """
        own = (
            *(self.worktrees, self.logs, self.trial_logs, self.workshops),
            *(self.trash, self.slots, self.warm, self.setups),
        )
        missing = [folder for folder in own if not folder.is_dir()]
        for folder in missing:  # never what they lie in: that may have been moved away
            try:
                folder.mkdir(exist_ok=True)
            except OSError as error:
                if trouble_of(error):
                    raise
                raise PlaceLost(f"{folder}: cannot be made again: {error.strerror}") from error
        for folder in own:
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PlaceLost(f"{folder}: the daemon may not read and write it any more")
        return missing

    def require_store(self) -> None:
        """Raise WorkspaceError where the store is gone and what it tells of is there."""
        if self.database.exists() and self.database.stat().st_size:
            return
        for folder in (self.tasks, self.workshops, self.integration):
            if folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir()):
                raise WorkspaceError(
                    f"{self.database}: is not there, but {folder} is not empty: put the store "
                    "back, or 'alluvium-like restore' a backup into an empty folder"
                )

    def make_folders(self) -> None:
        """Create what is missing. Raises WorkspaceError when the folder cannot be written."""
        try:
            for folder in self.folders:
                folder.mkdir(parents=True, exist_ok=True)
            self.state.chmod(0o700)
        except OSError as error:
            raise WorkspaceError(
                f"{error.filename}: {os.strerror(error.errno or 0)}; "
                "the workspace must be a folder that you may write to"
            ) from error

    def require_one_file_system(self) -> None:
        """Raise WorkspaceError where its folders are not all on one."""
        if len({folder.stat().st_dev for folder in self.folders}) > 1:
            raise WorkspaceError(
                f"{self.root}: its folders are not all on one file system; "
                "items are claimed by rename, so put them together"
            )
