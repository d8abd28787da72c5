"""A producer of ours: what it drops appears in the inbox whole, by one rename, and lasts."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import tomli_w

from alluvium_like.durable import fsync_dir, rename_noreplace
from alluvium_like.errors import AlluviumError, UsageError
from alluvium_like.failpoint import step
from alluvium_like.inbox.settings import FILE_NAME, settings_of
from alluvium_like.surface.status import ignored_names
from alluvium_like.task import display_name
from alluvium_like.workspace import Workspace

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
EXAMPLE = b"""\
# Example task

Add a file `HELLO.md` to the repository that greets whoever reads it, and commit it.
"""


def submit_text(
    workspace: Workspace, name: str, data: bytes, settings: Mapping[str, Any] = NOTHING
) -> str:
    """Drop bytes as one file; returns the name it got. Raises AlluviumError."""
    _check_name(workspace, name)
    with _part(workspace) as part:
        with _place_in(part, name, settings).open("xb") as stream:
            stream.write(data)
            stream.flush()
            with step("submit.sync_text"):
                os.fsync(stream.fileno())
        _add_settings(part, settings, is_dir=False)
        return publish(part, workspace.inbox, name)


def submit_path(
    workspace: Workspace, source: Path, name: str = "", settings: Mapping[str, Any] = NOTHING
) -> str:
    """Drop a copy of a file or folder; links in it stay links. Raises AlluviumError.

    With settings a file becomes a folder that holds it, beside task.toml.
    """
    if not os.path.lexists(source):
        raise UsageError(f"{source}: no such file or folder")
    if not (source.is_file() or source.is_dir()):
        raise UsageError(f"{source}: neither a file nor a folder")
    if workspace.inbox.is_relative_to(source.resolve()):
        raise UsageError(f"{source}: holds the inbox itself")
    name = name or source.absolute().name
    _check_name(workspace, name)
    with _part(workspace) as part:
        try:
            if source.is_dir():
                shutil.copytree(source, part, symlinks=True)
            else:
                shutil.copy2(source, _place_in(part, name, settings))
            _sync_all(part)
        except shutil.Error as error:
            raise AlluviumError(f"{source}: cannot be copied: {_first_problem(error)}") from error
        except OSError as error:
            why = error.strerror or error
            raise AlluviumError(f"{source}: cannot be copied: {why}") from error
        _add_settings(part, settings, is_dir=source.is_dir())
        return publish(part, workspace.inbox, name)


def publish(source: Path, inbox: Path, name: str) -> str:
    """Rename something into the inbox, over nothing, for good; returns the name it got there.

    Raises AlluviumError where too many are named like it, OSError where it cannot be moved.
    """
    stem, dot, suffix = name.partition(".")
    for number in range(1, 1000):
        wanted = name if number == 1 else f"{stem}-{number}{dot}{suffix}"
        try:
            with step("publish.rename"):
                rename_noreplace(source, inbox / wanted)
        except FileExistsError:
            continue
        with step("publish.sync_inbox"):
            fsync_dir(inbox)
        return wanted
    shown = display_name(os.fsencode(name))
    raise AlluviumError(f"the inbox holds too many items named like {shown}")


def _place_in(part: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """Return where a file goes: a folder is made for it where settings go beside it."""
    if not settings:
        return part
    part.mkdir()
    return part / name


def _add_settings(part: Path, settings: Mapping[str, Any], *, is_dir: bool) -> None:
    """Write settings beside what is submitted; they count before those that it brings itself."""
    if not settings:
        return
    own = settings_of(part, is_dir=is_dir)
    if own.problem:
        raise UsageError(own.problem)
    file = part / FILE_NAME
    if os.path.lexists(file) and not own.settings:
        raise UsageError(f"options go into a {FILE_NAME}, and there is another file of that name")
    file.unlink(missing_ok=True)
    file.write_text(tomli_w.dumps({**own.settings, **settings}), encoding="utf-8")
    _sync_all(part)


def _check_name(workspace: Workspace, name: str) -> None:
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise UsageError(f"'{name}' cannot be the name of an item; give another with --name")
    prefixes, suffixes = ignored_names(workspace)
    if name.startswith(prefixes) or name.endswith(suffixes):
        raise UsageError(
            f"'{name}' would be left in the inbox, as [safety] in config.toml says; "
            "give another with --name"
        )


@contextmanager
def _part(workspace: Workspace) -> Iterator[Path]:
    """Give a name in the inbox that is left alone there; what is under it at the end is removed."""
    if not workspace.inbox.is_dir():
        raise AlluviumError(f"{workspace.inbox}: no such folder; 'alluvium-like init' makes it")
    part = workspace.inbox / f".submit-{secrets.token_hex(8)}.tmp"
    try:
        yield part
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _first_problem(error: shutil.Error) -> str:
    """Say in one line what `shutil` says of every entry that it could not copy."""
    entry, _, why = error.args[0][0]
    return f"{entry}: {why}"


def _sync_all(path: Path) -> None:
    if path.is_symlink():
        return
    entries = list(path.iterdir()) if path.is_dir() else []
    for entry in entries:
        _sync_all(entry)
    if path.is_dir() or path.is_file():
        fd = os.open(path, os.O_RDONLY)
        try:
            with step("submit.sync_item"):
                os.fsync(fd)
        finally:
            os.close(fd)
