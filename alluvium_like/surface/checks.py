"""The checks of `verify`, pure: facts of rows, folders and Git in, findings out.

A finding is what cannot have come about by the daemon's own doing, a crash at any moment and what
people may do (delete folders of ended tasks, rewrite their history by rebase) included.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from alluvium_like.gitrepo.audit import Landings
from alluvium_like.gitrepo.harvest import task_ref
from alluvium_like.gitrepo.runner import full_ref
from alluvium_like.lifecycle import ENDED, LandingState, Outcome, State
from alluvium_like.store.rows import Row
from alluvium_like.task import Attempt, Task

BASE_REF: Final = "refs/alluvium/base"
_OF_TASKS: Final = ("tasks", "candidates", "strays")
BACKUP: Final = "restore a backup"


class Kind(StrEnum):
    """What a finding is about."""

    STORE = "store"
    FOLDER = "folder"
    REF = "ref"
    COMMIT = "commit"
    REPOSITORY = "repository"
    HISTORY = "history"
    LANDED_ALREADY = "landed already"
    LANDING = "landing"
    STATE = "state"
    EVENTS = "events"
    PROJECTION = "events.jsonl"
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what about what, and what to do."""

    kind: Kind
    subject: str
    problem: str
    advice: str

    @property
    def line(self) -> str:
        """Tell it to a person, on one line."""
        return " ".join(f"{self.kind}: {self.subject}: {self.problem}; {self.advice}".split())

    def document(self) -> dict[str, str]:
        """Return the shape that scripts rely on."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "problem": self.problem,
            "advice": self.advice,
        }


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read; `commits` are those of `named` and of `refs` that are there.

    `folders` maps each folder in tasks/ to whether it has its input/. Without an answer from Git
    `refs` and `history` are None.
    """

    tasks: Mapping[str, Task]
    attempts: Mapping[str, Sequence[Attempt]]
    claims: Set[str]
    asking: Set[str]
    landings: Sequence[Row]
    folders: Mapping[str, bool]
    named: Sequence[tuple[str, str]] = ()
    refs: Mapping[str, str] | None = None
    commits: Set[str] = frozenset()
    base_branch: str = ""
    history: Landings | None = None


def candidate_ref(task_id: str) -> str:
    """Return the ref of the daemon's repository that keeps a task's candidate."""
    return f"refs/alluvium/candidates/{task_id}"


def task_of_ref(ref: str) -> str | None:
    """Return the task that a ref of the daemon's repository is about, None where about none."""
    parts = ref.split("/")
    if parts[:2] == ["refs", "alluvium"] and len(parts) > 3 and parts[2] in _OF_TASKS:
        return parts[3]
    return None


def is_open(landing: Row) -> bool:
    """Tell whether a landing is under way or has to wait."""
    return landing["state"] in (LandingState.PREPARED, LandingState.BLOCKED)


def check_folders(facts: Facts) -> Iterator[Finding]:
    """Compare rows with folders."""
    for task in facts.tasks.values():
        if task.id not in facts.folders and task.state not in ENDED:
            advice = f"{BACKUP}, or 'alluvium-like cancel {task.id}'"
            yield Finding(Kind.FOLDER, task.id, f"is {task.state} and has no folder", advice)
        elif task.state not in ENDED and not facts.folders[task.id]:
            advice = f"{BACKUP}, or put what was dropped into tasks/{task.id}/input"
            yield Finding(Kind.FOLDER, task.id, "its input/ is gone", advice)
    for name in sorted(facts.folders.keys() - facts.tasks.keys() - facts.claims):
        advice = f"move what is in tasks/{name}/input to inbox/, and the rest away"
        yield Finding(Kind.FOLDER, name, "a folder in tasks/ that belongs to no task", advice)


def check_states(facts: Facts) -> Iterator[Finding]:
    """Check that each row's state has what belongs to it."""
    for task in facts.tasks.values():
        attempts = facts.attempts.get(task.id, ())
        again = f"'alluvium-like cancel {task.id}', then 'alluvium-like retry {task.id}'"
        if [attempt.number for attempt in attempts] != list(range(1, task.attempt + 1)):
            problem = f"is in attempt {task.attempt}, and {len(attempts)} are stored"
            yield Finding(Kind.STATE, task.id, problem, BACKUP)
        elif task.state is State.RUNNING and (not attempts or attempts[-1].ended_at):
            yield Finding(Kind.STATE, task.id, "is running, and no attempt of it is open", again)
        if task.state is State.NEEDS_HUMAN and task.id not in facts.asking:
            problem = "needs a human, and nothing is asked"
            yield Finding(Kind.STATE, task.id, problem, f"'alluvium-like retry {task.id}'")
        if task.outcome is Outcome.MERGED and not task.merge_commit:
            yield Finding(Kind.STATE, task.id, "is merged, and its commit is not stored", BACKUP)


def check_refs(facts: Facts) -> Iterator[Finding]:
    """Compare refs/alluvium/ with the rows."""
    if facts.refs is None:
        return
    for ref, commit in facts.refs.items():
        owner = task_of_ref(ref)
        if owner is not None and owner not in facts.tasks.keys() | facts.claims:
            advice = f"keep what you need of it, then: {_git('update-ref -d', ref)}"
            yield Finding(Kind.REF, ref, "is of a task that is not there", advice)
        elif commit not in facts.commits and not ref.startswith("refs/tags/"):
            yield Finding(Kind.REF, ref, f"its commit {commit[:10]} is not there", BACKUP)
    for task in facts.tasks.values():
        yield from _check_work(facts, facts.refs, task)
    for ref in (full_ref(facts.base_branch), BASE_REF):
        if ref not in facts.refs:
            advice = f"{BACKUP}, or move .alluvium/integration.git away: it is cloned again"
            yield Finding(Kind.REF, ref, "is not there", advice)


def _check_work(facts: Facts, refs: Mapping[str, str], task: Task) -> Iterator[Finding]:
    if task.state is State.DONE or not task.head_commit:
        return
    ref = task_ref(task.id)
    mend = _git("update-ref", ref, task.head_commit)
    ends = [attempt.end_commit for attempt in facts.attempts.get(task.id, ())]
    if ref not in refs:
        if task.id in facts.folders or task.state not in ENDED:
            yield Finding(Kind.REF, ref, f"is not there, and {task.id} has work", mend)
    elif refs[ref] not in {task.head_commit, *ends} and all(ends):
        # An attempt without an end may have left its work there when the daemon died.
        problem = f"names {refs[ref][:10]}, which no attempt has left"
        yield Finding(Kind.REF, ref, problem, mend)


def check_commits(facts: Facts) -> Iterator[Finding]:
    """Check that the commits that rows name are in the daemon's repository."""
    for place, commit in facts.named if facts.refs is not None else ():
        if commit not in facts.commits:
            problem = f"names commit {commit[:10]}, which is not in integration.git"
            yield Finding(Kind.COMMIT, place, problem, BACKUP)


def check_history(facts: Facts) -> Iterator[Finding]:
    """Check that what has landed, and nothing else, is in the base, once."""
    history = facts.history
    if history is None:
        return
    base = facts.base_branch
    for task in facts.tasks.values():
        line, anywhere = (held.get(task.id, []) for held in (history.line, history.anywhere))
        if task.outcome is Outcome.MERGED and not anywhere:
            advice = (
                f"where that was not on purpose, merge {task.merge_commit} from integration.git"
            )
            yield Finding(Kind.HISTORY, task.id, f"is merged, and {base} does not hold it", advice)
        if len(line) > 1:
            some = ", ".join(commit[:10] for commit in line)
            advice = "look at these commits, and revert what is too much"
            yield Finding(Kind.HISTORY, task.id, f"landed {len(line)} times: {some}", advice)
        if line and task.state not in (State.DONE, State.INTEGRATING):
            problem = f"is {task.state}, and {base} holds it as {line[0][:10]}"
            if task.state is State.CANCELLED:
                yield Finding(Kind.HISTORY, task.id, problem, "leave it as it is")
                continue
            advice = f"'alluvium-like cancel {task.id}', or it may be done twice"
            yield Finding(Kind.LANDED_ALREADY, task.id, problem, advice)


def check_landings(facts: Facts) -> Iterator[Finding]:
    """Check the journal of the base against the tasks that it names."""
    open_ones: dict[str, set[int]] = {}
    by_landing: dict[int, list[Row]] = {}
    for row in facts.landings:
        by_landing.setdefault(row["id"], []).append(row)
        if is_open(row):
            open_ones.setdefault(row["repository"], set()).add(row["id"])
    for repository, ids in open_ones.items():
        if len(ids) > 1:
            problem = f"{len(ids)} landings are open at once ({', '.join(map(str, sorted(ids)))})"
            yield Finding(Kind.LANDING, repository, problem, BACKUP)
    for number, rows in by_landing.items():
        check = _check_open if is_open(rows[0]) else _check_landed
        for problem, advice in check(facts, rows):
            yield Finding(Kind.LANDING, str(number), problem, advice)


def _check_landed(_: Facts, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for row in rows:
        if row["task_id"] and row["merge_commit"] != row["commit_id"]:
            state = f"{row['task_state']} with {(row['merge_commit'] or 'no commit')[:10]}"
            yield f"landed {row['task_id']} as {row['commit_id'][:10]}, which is {state}", BACKUP


def _check_open(facts: Facts, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    if rows[0]["new_commit"] not in {row["commit_id"] for row in rows}:
        yield f"its commit {rows[0]['new_commit'][:10]} is none of a task's", BACKUP
    for row in rows:
        if row["task_state"] == State.DONE:
            yield f"is open, and {row['task_id']} is done", BACKUP
    if any(row["task_state"] != State.INTEGRATING for row in rows):
        return  # one was withdrawn: the lane gives the landing up at its next look
    for row in rows if rows[0]["state"] == LandingState.BLOCKED else ():
        ref = candidate_ref(row["task_id"])
        if facts.refs is not None and facts.refs.get(ref) != row["commit_id"]:
            problem = f"waits to land {row['commit_id'][:10]}, and {ref} does not name it"
            yield problem, _git("update-ref", ref, row["commit_id"])


def _git(*words: str) -> str:
    return f"git --git-dir=.alluvium/integration.git {' '.join(words)}"


ALL: Final = (
    check_folders,
    check_states,
    check_refs,
    check_commits,
    check_history,
    check_landings,
)


def check_all(facts: Facts) -> Iterable[Finding]:
    """Return what the checks find that look at everything at once."""
    return [finding for check in ALL for finding in check(facts)]
