"""What `queue` shows: the train of a repository as it stands, read from the store."""

from dataclasses import dataclass

from alluvium_like.lifecycle import Condition, State
from alluvium_like.lock import is_locked
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.rows import Row
from alluvium_like.task import REPOSITORY
from alluvium_like.workspace import Workspace

_MOST_WAITING = 1000
_FLAKES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Queue:
    """The whole picture at one moment; every entry is a document of its own."""

    base_branch: str
    paused: str
    failure_rate: float
    judged: int
    runs: int
    flakes: int
    landing: list[dict[str, object]]
    train: list[dict[str, object]]
    testing: list[dict[str, object]]
    waiting: list[dict[str, object]]
    last_flakes: list[dict[str, object]]

    @property
    def runs_saved(self) -> int:
        """How many runs of the tests fewer there were than one for each task."""
        return max(self.judged - self.runs, 0)

    def document(self) -> dict[str, object]:
        """Return the shape that scripts rely on."""
        return {
            "base_branch": self.base_branch,
            "paused": self.paused or None,
            "failure_rate": round(self.failure_rate, 4),
            "judged": self.judged,
            "runs": self.runs,
            "runs_saved": self.runs_saved,
            "flakes": self.flakes,
            "landing": self.landing,
            "train": self.train,
            "testing": self.testing,
            "waiting": self.waiting,
            "last_flakes": self.last_flakes,
        }


def read_queue(workspace: Workspace) -> Queue:
    """Read the queue. Raises StoreError when the store cannot be read."""
    with StoreReader(workspace.database) as store:
        figures = store.queue(REPOSITORY)
        # Rows that a killed daemon left open stay so until its next start.
        open_trials = store.open_trials(REPOSITORY) if is_locked(workspace) else []
        testing = [_trial(store, workspace, row) for row in open_trials]
        under_test = {trial["commit"] for trial in testing}
        pauses = (Condition.BASE_RED, Condition.ESCAPE)
        paused = [c["reason"] for c in store.conditions() if c["name"] in pauses]
        return Queue(
            base_branch=store.base_branch(),
            paused="; ".join(paused),
            failure_rate=figures["failure_rate"] if figures else 0.0,
            judged=figures["judged"] if figures else 0,
            runs=figures["runs"] if figures else 0,
            flakes=figures["flakes"] if figures else 0,
            landing=[
                {"id": r["id"], "name": r["name"], "commit": r["commit_id"], "reason": r["reason"]}
                for r in store.waiting_to_land(REPOSITORY)
            ],
            train=[
                {
                    "position": row["position"],
                    "id": row["task_id"],
                    "name": row["name"],
                    "priority": row["priority"],
                    "commit": row["commit_id"],
                    "testing": row["commit_id"] in under_test,
                }
                for row in store.cars(REPOSITORY)
                if row["state"] == State.INTEGRATING
            ],
            testing=testing,
            waiting=[
                {"id": t.id, "name": t.name, "priority": t.priority, "reason": t.reason}
                for t in store.to_couple(REPOSITORY, _MOST_WAITING)
            ],
            last_flakes=[
                {
                    "trial": row["id"],
                    "commit": row["commit_id"],
                    "at": row["started_at"],
                    "command": row["command"],
                    "result": row["exit_text"],
                    "log": str(workspace.trial_log(row["id"])),
                }
                for row in store.last_flakes(REPOSITORY, _FLAKES_SHOWN)
            ],
        )


def _trial(store: StoreReader, workspace: Workspace, row: Row) -> dict[str, object]:
    return {
        "trial": row["id"],
        "commit": row["commit_id"],
        "since": row["started_at"],
        "tasks": store.tasks_of_trial(row["id"]),
        "log": str(workspace.trial_log(row["id"])),
    }
