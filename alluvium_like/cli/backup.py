"""Commands that keep a workspace safe: saving it, bringing it back, and checking it."""

from pathlib import Path
from typing import Annotated

import typer

from alluvium_like.cli.common import JsonOption, chosen_path, no_loop, workspace
from alluvium_like.cli.plain import print_json, printable

_MOST_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (backup, restore, verify):
        app.command()(command)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", callback=no_loop)],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE where it exists.")] = False,
    with_repo: Annotated[
        bool, typer.Option("--with-repo", help="Save the commits of your repository too.")
    ] = False,
) -> None:
    """Save the workspace in one file, a .tar.gz, with the daemon up or down."""
    from alluvium_like.surface.backup import back_up

    saved = back_up(workspace(), file, force=force, with_repo=with_repo)
    print(f"saved: {printable(str(file))} ({saved.tasks} tasks, {saved.bytes} bytes)")
    for line in saved.skipped[:_MOST_SHOWN]:
        print(f"not saved: {printable(line)}")
    if len(saved.skipped) > _MOST_SHOWN:
        print(f"not saved: {len(saved.skipped) - _MOST_SHOWN} more")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", callback=no_loop)],
    path: Annotated[
        Path | None,
        typer.Argument(callback=no_loop, help="A new or empty folder; else the current one."),
    ] = None,
) -> None:
    """Make a workspace from a backup, in a new or an empty folder."""
    from alluvium_like.surface.restore import restore as make_from

    made = make_from(file, path or chosen_path() or Path.cwd())
    print(f"restored: {made.workspace.root} ({made.tasks} tasks), as of {made.made_at}")
    for note in made.notes:
        print(f"note: {printable(note)}")
    for finding in made.findings:
        print(printable(finding.line))
    if made.paused:
        print("paused: look at these tasks first, then 'alluvium-like resume'")
    print("Next: 'alluvium-like start'")


def verify(as_json: JsonOption = False) -> None:
    """Check store, folders, refs, history and journal against each other; changes nothing."""
    from alluvium_like.surface.verify import verify as look

    findings = look(workspace())
    if as_json:
        print_json({"ok": not findings, "findings": [finding.document() for finding in findings]})
    else:
        for finding in findings:
            print(printable(finding.line))
        print(f"{len(findings)} wrong" if findings else "nothing is wrong")
    if findings:
        raise typer.Exit(1)
