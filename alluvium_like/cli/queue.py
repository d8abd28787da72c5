"""Commands about the merge queue: what it does now, leave to land, and taking back."""

import typer

from alluvium_like.cli.common import (
    AnswerArgument,
    JsonOption,
    TaskArgument,
    act_on_task,
    workspace,
)
from alluvium_like.cli.plain import print_json, printable


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (queue, approve, reject, revert):
        app.command()(command)


def queue(as_json: JsonOption = False) -> None:
    """Show what is tested with what, what lands next, and what the queue has learned."""
    from alluvium_like.surface.queue import read_queue

    now = read_queue(workspace())
    if as_json:
        print_json(now.document())
        return
    if now.paused:
        print(f"paused        {printable(now.paused)}")
    print(f"base          {now.base_branch}")
    print(
        f"failure rate  {now.failure_rate:.1%}; {now.judged} tasks judged in {now.runs} test runs, "
        f"{now.runs_saved} runs saved, {now.flakes} flakes"
    )
    for title, entries in (("waits to land", now.landing), ("waiting", now.waiting)):
        for entry in entries:
            print(f"{title:<13} {entry['id']}  {printable(str(entry['reason']))}".rstrip())
    for car in now.train:
        mark = "tested with all before it" if car["testing"] else ""
        print(f"{car['position']:>13} {car['id']}  {mark}".rstrip())
    for trial in now.testing:
        print(f"testing       {str(trial['commit'])[:10]} since {trial['since']}: {trial['log']}")
    for flake in now.last_flakes:
        command, result = printable(str(flake["command"])), flake["result"]
        print(f"flake         {flake['at']}  {command} {result}, then passed: {flake['log']}")


def approve(task: TaskArgument) -> None:
    """Let a task land although it touches protected paths: exactly the work that is there now."""
    act_on_task("approve", task)
    print("approved: the integrator takes it")


def reject(task: TaskArgument, reason: AnswerArgument) -> None:
    """Send a task that touches protected paths back to its agent, with the reason."""
    act_on_task("reject", task, text=reason)
    print("rejected: the task is queued again")


def revert(task: TaskArgument) -> None:
    """Take a landed task back, by a new task that goes through the queue like any other."""
    act_on_task("revert", task)
    print("a task was made that takes it back; 'alluvium-like list' shows it")
