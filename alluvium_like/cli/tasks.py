"""Commands about tasks: what there is, and what a person may do to one."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from alluvium_like.cli.common import (
    AnswerArgument,
    JsonOption,
    TaskArgument,
    act_on_task,
    find_task_id,
    workspace,
)
from alluvium_like.cli.look import NEWEST, print_list, task_document
from alluvium_like.cli.plain import print_json, printable
from alluvium_like.lifecycle import CheckpointKind, State


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (submit, show, log, diff, answer, retry, cancel, set):
        app.command()(command)
    app.command("list")(list_tasks)
    app.command("example-task")(example_task)


def submit(
    path: Annotated[str, typer.Argument(metavar="PATH|-", help="A file or folder; - is stdin.")],
    name: Annotated[
        str, typer.Option(help="The item's name in the inbox; else the name of PATH.")
    ] = "",
    title: Annotated[str, typer.Option(help="What people and commits call the task.")] = "",
    agent: Annotated[str, typer.Option(help="The agent that works on it.")] = "",
    model: Annotated[str, typer.Option(help="The model that this agent uses.")] = "",
    priority: Annotated[str, typer.Option(help="What is higher starts and lands first.")] = "",
    timeout: Annotated[str, typer.Option(help="Seconds that one attempt may take.")] = "",
    max_cost: Annotated[str, typer.Option(help="US dollars that it may cost.")] = "",
    max_tokens: Annotated[str, typer.Option(help="Tokens that it may use.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="A word to find it by.")] = None,
    project: Annotated[str, typer.Option(help="What it belongs to.")] = "",
    test: Annotated[list[str] | None, typer.Option(help="A test that it has to pass too.")] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="'landing': a person approves before it lands.")
    ] = None,
) -> None:
    """Copy a file or folder into the inbox, with settings where they are given."""
    from alluvium_like.surface.change import parse_settings
    from alluvium_like.surface.submit import submit_path, submit_text

    space = workspace()
    words = {
        "title": title,
        "agent": agent,
        "model": model,
        "priority": priority,
        "timeout_seconds": timeout,
        "max_cost": max_cost,
        "max_tokens": max_tokens,
        "labels": ",".join(label or ()),
        "project": project,
        "tests": ",".join(test or ()),
        "checkpoints": ",".join(checkpoint or ()),
    }
    settings = parse_settings(space, {key: text for key, text in words.items() if text})
    if path == "-":
        item = submit_text(space, name or "request.md", sys.stdin.buffer.read(), settings)
    else:
        item = submit_path(space, Path(path), name, settings)
    print(f"submitted: {printable(item)}")


def example_task() -> None:
    """Drop a small sample into the inbox."""
    from alluvium_like.surface.submit import EXAMPLE, submit_text

    print(f"submitted: {submit_text(workspace(), 'example-task.md', EXAMPLE)}")


def list_tasks(
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.")] = None,
    limit: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Of those that have ended only the newest N; 0 shows all."
        ),
    ] = NEWEST,
    label: Annotated[str, typer.Option(help="Only tasks with this label.")] = "",
    project: Annotated[str, typer.Option(help="Only tasks of this project.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the tasks, oldest first."""
    print_list(
        workspace(), state=state, newest=limit, as_json=as_json, label=label, project=project
    )


def show(task: TaskArgument, as_json: JsonOption = False) -> None:
    """Show one task: where it stands, why, its history and what people were asked."""
    from alluvium_like.store.reader import StoreReader

    space = workspace()
    with StoreReader(space.database) as store:
        found = store.find(task)
        events, checkpoints = store.events(found.id), store.checkpoints(found.id)
        document = task_document(found) | {
            "folder": str(space.task(found.id).root),
            "branch": found.branch,
            "events": [dict(row) for row in events],
            "checkpoints": [dict(row) for row in checkpoints],
            "runs": [
                {
                    "number": run.number,
                    "started_at": run.started_at,
                    "ended_at": run.ended_at,
                    "ending": run.ending,
                    "exit_code": run.exit_code,
                    "verdict": run.verdict,
                    "reason": run.reason,
                    "agent": run.agent,
                    "model": run.model,
                    "outcome": run.outcome,
                    "input_tokens": run.input_tokens,
                    "output_tokens": run.output_tokens,
                    "cost": run.cost,
                    "cost_source": run.cost_source,
                }
                for run in store.attempts(found.id)
            ],
        }
    if as_json:
        print_json(document)
        return
    for key in ("id", "name", "state", "outcome", "reason", "attempts", "merge_commit", "folder"):
        if document[key] not in (None, ""):
            print(f"{key:<13} {printable(str(document[key]))}")
    for key, value in {"agent": found.agent, "priority": found.priority}.items():
        if value:
            print(f"{key:<13} {value}")
    for key, value in found.settings.document().items():
        shown = ", ".join(value) if isinstance(value, tuple) else str(value)
        print(f"{key:<13} {printable(shown)}")
    print("\nhistory")
    for event in events:
        step = f"{event['from_state'] or '(claimed)'} → {event['to_state']}"
        print(f"  {event['at']}  {step}  {printable(event['reason'])}".rstrip())
    for checkpoint in checkpoints:
        print(f"\nquestion      {printable(checkpoint['question'])}")
        if checkpoint["answer"] is not None:
            print(f"answer        {printable(checkpoint['answer'])}")
        elif checkpoint["kind"] == CheckpointKind.APPROVAL:
            print(f"              decide with: alluvium-like approve {found.id}")
            print(f"                      or:  alluvium-like reject {found.id} TEXT")
        else:
            print(f"              answer it with: alluvium-like answer {found.id} TEXT")


def log(
    task: TaskArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task rests.")
    ] = False,
) -> None:
    """Print what the agent of the last attempt, and the last tests, put out."""
    from alluvium_like.surface.follow import follow_log, print_log

    space = workspace()
    task_id = find_task_id(space, task)
    if follow:
        follow_log(space, task_id, sys.stdout)
    else:
        print_log(space, task_id, sys.stdout)


def diff(task: TaskArgument) -> None:
    """Print what a task changes: its landed commit, else its branch against the base."""
    from alluvium_like.surface.diff import task_diff

    space = workspace()
    sys.stdout.buffer.write(task_diff(space, find_task_id(space, task)))
    sys.stdout.flush()


def answer(task: TaskArgument, text: AnswerArgument) -> None:
    """Answer a task that needs a human; it runs again on its branch with the new base."""
    act_on_task("answer", task, text=text)
    print("answered: the task is queued again")


def retry(task: TaskArgument) -> None:
    """Run a task again that failed, was cancelled or needs a human, from where it started."""
    act_on_task("retry", task)
    print("queued again")


def cancel(task: TaskArgument) -> None:
    """Cancel a task and end all its processes; its branch is kept."""
    act_on_task("cancel", task)
    print("cancelled")


def set(  # noqa: A001  the command's name
    task: TaskArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="Lists are separated by commas.")
    ],
) -> None:
    """Change the settings of a task whose next attempt has not started; KEY= takes one back."""
    from alluvium_like.surface.change import changes_of

    act_on_task("set", task, changes=changes_of(workspace(), changes))
    print("changed")
