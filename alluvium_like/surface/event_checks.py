"""The checks of `verify` about one task's history, pure: its events, and their copy in a file."""

from collections.abc import Iterator, Mapping, Sequence

from alluvium_like.lifecycle import ENDED, TRANSITIONS, State
from alluvium_like.store.rows import Row
from alluvium_like.surface.checks import BACKUP, Finding, Kind
from alluvium_like.task import Task


def check_events(task: Task | None, events: Sequence[Row]) -> Iterator[Finding]:
    """Check that the history of one task leads to where its row stands, by legal steps."""
    if task is None:
        yield Finding(Kind.EVENTS, events[0]["task_id"], "belong to no task", BACKUP)
        return
    before = None
    for event in events:
        steps = (
            {None: frozenset(State)} if before is None else {before: TRANSITIONS[before] | {before}}
        )
        came_from = event["from_state"]
        if came_from not in steps or event["to_state"] not in steps[came_from]:
            step = f"{came_from or '(nothing)'} → {event['to_state']}"
            problem = f"event {event['seq']} ({step}) does not follow {before or 'the beginning'}"
            yield Finding(Kind.EVENTS, task.id, problem, BACKUP)
            return
        before = State(event["to_state"])
    if before is not task.state or events[-1]["reason"] != task.reason:
        problem = f"end at {before or 'nothing'}, and the row says {task.state}"
        yield Finding(Kind.EVENTS, task.id, problem, BACKUP)


def check_projection(
    task: Task, events: Sequence[Row], lines: Sequence[object] | None, newest: int
) -> Iterator[Finding]:
    """Compare events.jsonl with the rows; `newest` is the last event that was read.

    None stands for no file; people may have deleted what is left of ended tasks.
    """
    if lines is None:
        if task.state not in ENDED:
            yield _projection(task, "is not there")
        return
    known = [line for line in lines if not (isinstance(line, dict) and _is_after(line, newest))]
    if known != [dict(event) for event in events]:
        yield _projection(task, "does not say what the rows say")


def _is_after(line: Mapping[object, object], newest: int) -> bool:
    number = line.get("seq")
    return isinstance(number, int) and number > newest


def _projection(task: Task, problem: str) -> Finding:
    advice = f"nothing follows it; 'alluvium-like show {task.id}' tells the history"
    return Finding(Kind.PROJECTION, task.id, problem, advice)
