"""`status` and `list`, which people and scripts call all the time.

Their plain forms are answered without the full parser, whose start would take most of the time.
It stays the judge of everything else: help, other spellings, and every mistake.
"""

from collections.abc import Sequence
from pathlib import Path

from alluvium_like.cli.plain import open_workspace, print_json, printable
from alluvium_like.lifecycle import ENDED, State
from alluvium_like.store.reader import StoreReader
from alluvium_like.surface.status import read_status
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

NEWEST = 1000
"""How many of the tasks that have ended `list` shows where nothing is said."""


def try_look(args: Sequence[str]) -> bool:
    """Answer `[-C PATH] status|list` with plain options; return false for all else, undone.

    Raises AlluviumError as the commands do.
    """
    words = list(args)
    chosen = None
    if words[:1] == ["-C"] and len(words) > 1:
        chosen = Path(words[1])
        del words[:2]
    if _leads_nowhere(chosen):
        return False
    match words:
        case ["status"]:
            print_status(open_workspace(chosen))
        case ["status", "--json"]:
            print_status(open_workspace(chosen), as_json=True)
        case ["list", *options]:
            given = _list_options(options)
            if given is None:
                return False
            as_json, state, newest = given
            print_list(open_workspace(chosen), state=state, newest=newest, as_json=as_json)
        case _:
            return False
    return True


def _leads_nowhere(chosen: Path | None) -> bool:
    try:
        return chosen is not None and not chosen.resolve().is_dir()
    except RuntimeError:  # a link that leads to itself
        return True


def _list_options(words: Sequence[str]) -> tuple[bool, State | None, int] | None:
    as_json, state, newest = False, None, NEWEST
    rest = iter(words)
    for word in rest:
        if word == "--json":
            as_json = True
        elif word == "--state" and (name := next(rest, "")) in set(State):
            state = State(name)
        elif word == "--limit" and (number := next(rest, "")).isdecimal() and number.isascii():
            newest = int(number)
        else:
            return None
    return as_json, state, newest


def print_status(space: Workspace, *, as_json: bool = False) -> None:
    """Show the daemon, the queue, and what holds them up."""
    now = read_status(space)
    if as_json:
        print_json(now.document())
        return
    pid = f" (pid {now.pid})" if now.running else ""
    print(f"daemon      {now.state}{pid}")
    if now.hung:
        print("  it does not answer; 'alluvium-like stop --force' ends it")
    for told in now.degraded:
        print(f"  {told.name:<9} {printable(told.reason)} (since {told.since})")
    print(f"workspace   {now.root}")
    if now.landing:
        print(f"landing     {printable(now.landing)}")
    for condition in now.conditions:
        print(f"{condition.name:<11} {condition.reason} (since {condition.since})")
    for parked in now.parked:
        print(printable(f"parked      {parked.agent} until {parked.until}: {parked.reason}"))
    print(f"inbox       {now.inbox}")
    print(f"quarantine  {now.quarantine}")
    for state, count in now.tasks.items():
        if count:
            note = ""
            if state == "done":
                note = f"  ({now.outcomes['merged']} merged, {now.outcomes['noop']} noop)"
            print(f"{state:<15} {count}{note}")
    if not any(now.tasks.values()):
        print("no tasks yet: drop a file into inbox/")


def print_list(
    space: Workspace,
    *,
    state: State | None,
    newest: int,
    as_json: bool,
    label: str = "",
    project: str = "",
) -> None:
    """List the tasks, oldest first; of those that have ended the `newest`, or with 0 all.

    With a label or a project all that have it are shown, and no others.
    """
    with StoreReader(space.database) as store:
        tasks = store.tasks(state, newest=0 if label or project else newest)
        counts = store.counts()
    if label or project:
        tasks = [task for task in tasks if task.settings.is_about(label, project)]
    if as_json:
        print_json([task_document(task) for task in tasks])
        return
    ended = sum(counts[s] for s in ENDED if state in (None, s))
    left_out = ended - sum(task.state in ENDED for task in tasks)
    if left_out and not (label or project):
        print(f"({left_out} older ones that have ended are left out; --limit 0 shows all)")
    for task in tasks:
        outcome = f"/{task.outcome}" if task.outcome else ""
        print(f"{task.id}  {task.state}{outcome}  {printable(task.reason)}".rstrip())
    if not tasks:
        print("no tasks" if state is None else f"no tasks in {state}")


def task_document(task: Task) -> dict[str, object]:
    """Return the shape of one task that scripts rely on."""
    return {
        "id": task.id,
        "name": task.name,
        "state": task.state,
        "outcome": task.outcome,
        "attempts": task.attempt,
        "revision_round": task.revision_round,
        "merge_commit": task.merge_commit or None,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "reason": task.reason,
        "priority": task.priority,
        "repository": task.repository,
        "title": task.title,
        "agent": task.agent,
        "settings": task.settings.document(),
    }
