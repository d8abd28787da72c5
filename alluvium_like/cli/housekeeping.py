"""Commands of the house: what has been kept long enough, and what lies in quarantine."""

from typing import Annotated

import typer

from alluvium_like.cli.common import JsonOption, workspace
from alluvium_like.cli.plain import print_json, printable

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The name of an entry or its item, or a unique part."),
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(gc)
    group = typer.Typer(
        help="What could not be taken from the inbox: look at it, put it back, delete it.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("list")(list_entries)
    for command in (show, release, drop):
        group.command()(command)
    app.add_typer(group, name="quarantine")


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and why.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what was kept as long as [retention] in config.toml says."""
    from alluvium_like.surface.housekeeping import collect, what_would_go

    found = what_would_go(workspace()) if dry_run else collect(workspace())
    if as_json:
        print_json(found)
        return
    removals = found["removals"]
    if not isinstance(removals, list) or not removals:
        print("nothing has been kept too long")
        return
    for removal in removals:
        what = printable(f"{removal['path']}  {removal['reason']}")
        print(f"{_size(removal['bytes']):>9}  {what}")
    done = "would go" if dry_run else "removed"
    print(f"{_size(found['bytes']):>9}  {done}: {len(removals)} in all")


def list_entries(as_json: JsonOption = False) -> None:
    """List what is in quarantine and why, the oldest first."""
    from alluvium_like.surface.quarantine import entries

    found = [entry.document() for entry in entries(workspace())]
    if as_json:
        print_json(found)
        return
    for entry in found:
        print(f"{_size(entry['bytes']):>9}  {_age(entry['age_seconds']):>5}  {_line(entry)}")
    if not found:
        print("nothing is in quarantine")


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one entry: what it holds, why, and since when."""
    from alluvium_like.surface.quarantine import find

    entry = find(workspace(), name).document()
    if as_json:
        print_json(entry)
        return
    items = entry["items"]
    print(f"name    {entry['name']}")
    for item in items if isinstance(items, list) else []:
        print(f"item    {item}")
    print(f"reason  {entry['reason'] or 'nothing was written down'}")
    print(f"size    {_size(entry['bytes'])}")
    print(f"age     {_age(entry['age_seconds'])}")
    print(f"folder  {entry['path']}")


def release(name: NameArgument) -> None:
    """Move an item back into the inbox; nothing there is overwritten."""
    from alluvium_like.surface.quarantine import find
    from alluvium_like.surface.quarantine import release as put_back

    space = workspace()
    for item in put_back(space, find(space, name)):
        print(f"back in the inbox: {item}")


def drop(name: NameArgument) -> None:
    """Delete an entry and the item in it; nothing is asked."""
    from alluvium_like.surface.quarantine import drop as delete
    from alluvium_like.surface.quarantine import find

    space = workspace()
    entry = find(space, name)
    delete(space, entry)
    print(f"deleted: {entry.name}")


def _line(entry: dict[str, object]) -> str:
    return f"{entry['name']}  {entry['reason'] or ''}".rstrip()


def _size(count: object) -> str:
    size = float(count) if isinstance(count, int) else 0.0
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _age(seconds: object) -> str:
    left = seconds if isinstance(seconds, int) else 0
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if left >= length:
            return f"{left // length} {unit}"
    return f"{left} s"
