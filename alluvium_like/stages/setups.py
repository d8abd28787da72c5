"""What set-ups made, kept for the next worktree: folders below .alluvium/setups/<key>/.

A key stands for the commands, what of theirs is kept, the lock files and the machine. An entry is
made beside its place and published by rename, so it is whole or not there; who begins with a dot is
a half. Files are copies, never links: agents write into them. Tools that write down where they
stand get the new place: files and links that name the old tree are noted when an entry is made.
"""

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from alluvium_like.config.setup import Setup
from alluvium_like.deletion import to_trash
from alluvium_like.durable import sync_file_system
from alluvium_like.errors import PlaceLost
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.quick import run_quick
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.workshop import is_real_folder
from alluvium_like.stages.copied import place_for
from alluvium_like.workspace import Workspace

_COPY: Final = ("cp", "-ac") if sys.platform == "darwin" else ("cp", "-a", "--reflink=auto")
_COPY_SECONDS = 600.0
_NOTE = "made.json"
_FILES = "files"
_PROGRAMS = frozenset({"bin", ".bin", "Scripts"})
_PLACE_SUFFIXES = (".pth", ".cfg", ".egg-link", ".pc")
_LARGEST = 1_000_000


class Setups:
    """Who makes an entry now: of several runs with one key one works, the others wait for it."""

    def __init__(self) -> None:
        self._locks: dict[str, anyio.Lock] = {}

    def lock(self, key: str) -> anyio.Lock:
        """Return the lock of one key."""
        return self._locks.setdefault(key, anyio.Lock())


def key_of(setup: Setup, locks: Sequence[tuple[str, str]]) -> str:
    """Return the key of what the set-up of a tree makes; `locks` are its lock files with ids."""
    machine = (sys.platform, platform.machine())
    commands = [command.command for command in setup.run]
    text = json.dumps([commands, sorted(setup.keep), sorted(locks), machine, sorted(setup.env)])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


async def copy_in(source: Path, target: Path, workspace_id: str, *, follow: bool = False) -> None:
    """Copy a file or folder with all that it is. Raises OSError.

    Links stay links, or with `follow` become what they lead to.
    """
    with step("setup.copy"):
        done = await run_quick(
            [*_COPY, *(["-L"] if follow else []), "--", str(source), str(target)],
            cwd=target.parent,
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            timeout_seconds=_COPY_SECONDS,
            marker=RunMarker(workspace_id, RunKind.SETUP, "copy", 0),
        )
    if done.code:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["cp gives no reason"]
        full = any(os.strerror(errno.ENOSPC) in line for line in words)
        raise OSError(errno.ENOSPC if full else errno.EIO, words[-1], str(source))


async def reuse(workspace: Workspace, key: str, tree: Path, workspace_id: str) -> bool:
    """Bring what is kept into a fresh tree; false where nothing is. Raises SetupFailed or OSError.

    What was brought when it fails is taken away again.
    """
    entry = workspace.setups / key
    in_thread = anyio.to_thread.run_sync
    note = await in_thread(_read_note, entry)
    if note is None:
        return False
    old, kept, naming = note
    try:
        for name in kept:
            target = await in_thread(place_for, tree, name)
            await copy_in(entry / _FILES / name, target, workspace_id)
        await in_thread(_rename_tree, tree, naming, old)
    except OSError:
        await in_thread(_take_away, tree, kept, workspace.trash)
        raise
    return True


async def keep(
    workspace: Workspace, key: str, tree: Path, names: Sequence[str], workspace_id: str
) -> None:
    """Keep the folders `names` of a tree that a set-up has made; those that are missing are not.

    Raises OSError.
    """
    in_thread = anyio.to_thread.run_sync
    there = [name for name in names if await in_thread(_is_plain_folder, tree, name)]
    if not there:
        return
    half = workspace.setups / f".{key}-{secrets.token_hex(4)}"
    try:
        for name in there:
            target = half / _FILES / name
            await in_thread(partial(target.parent.mkdir, parents=True, exist_ok=True))
            await copy_in(tree / name, target, workspace_id)
        await in_thread(_publish, half, workspace, key, tree, there)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await in_thread(_discard, half, workspace.trash)
        raise


async def forget(workspace: Workspace, key: str) -> None:
    """Take away an entry that cannot be used; raises OSError."""
    await anyio.to_thread.run_sync(_discard, workspace.setups / key, workspace.trash)


def drop_halves(workspace: Workspace) -> None:
    """Take away what a killed daemon was making; blocks. Raises OSError."""
    for path in workspace.setups.iterdir():
        if path.name.startswith("."):
            _discard(path, workspace.trash)


def _discard(path: Path, trash: Path) -> None:
    if os.path.lexists(path):
        to_trash(path, trash)


def _publish(half: Path, workspace: Workspace, key: str, tree: Path, names: list[str]) -> None:
    note = {"tree": str(tree), "kept": names, "naming": list(_what_names(half / _FILES, str(tree)))}
    with (half / _NOTE).open("w") as stream:
        stream.write(json.dumps(note))
        stream.flush()
        with step("setup.sync"):
            os.fsync(stream.fileno())
            sync_file_system(half)  # a name that outlives a power cut stands for whole files
    _discard(workspace.setups / key, workspace.trash)
    with step("setup.publish"):
        half.rename(workspace.setups / key)


def _read_note(entry: Path) -> tuple[str, list[str], list[str]] | None:
    """Return the old tree, what is kept of it and what names it; and count the entry as used.

    Raises OSError, also where the note is damaged.
    """
    try:
        note = json.loads((entry / _NOTE).read_text())
        tree, kept, naming = str(note["tree"]), list(note["kept"]), list(note["naming"])
        os.utime(entry)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PlaceLost(f"{entry}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(errno.EIO, "its note is damaged", str(entry / _NOTE)) from error
    return tree, kept, naming


def _take_away(tree: Path, names: Sequence[str], trash: Path) -> None:
    for name in names:
        if _is_plain_folder(tree, name):
            _discard(tree / name, trash)


def _is_plain_folder(tree: Path, name: str) -> bool:
    """Tell whether a path of the tree is a real folder, with none but real ones around it."""
    path = tree / name
    around = path.parents[: len(path.relative_to(tree).parts)]
    return all(is_real_folder(each) for each in (path, *around))


def _pattern_of(tree: str) -> "re.Pattern[bytes]":
    return re.compile(re.escape(os.fsencode(tree)) + rb"(?![\w.-])")


def _what_names(files: Path, tree: str) -> Iterator[str]:
    """Yield the links and small text files that name the tree and that programs go by."""
    named = _pattern_of(tree)
    for at, folders, names in os.walk(files):
        for name in (*folders, *names):
            path = Path(at, name)
            if path.is_symlink():
                found = named.match(os.fsencode(path.readlink())) is not None
            elif name in folders or not _may_name_its_place(path):
                continue
            else:
                content = path.read_bytes()
                found = b"\0" not in content and named.search(content) is not None
            if found:
                yield str(path.relative_to(files))


def _may_name_its_place(path: Path) -> bool:
    """Tell whether a file is one in which programs write down where they stand."""
    if path.name != "direct_url.json" and not path.name.startswith("__editable__"):
        in_programs = path.parent.name in _PROGRAMS
        if not in_programs and path.suffix not in _PLACE_SUFFIXES:
            return False
    return path.is_file() and path.stat().st_size <= _LARGEST


def _rename_tree(tree: Path, naming: Sequence[str], old: str) -> None:
    """Write the new tree into what names the old one."""
    named, new = _pattern_of(old), os.fsencode(tree)
    for name in naming:
        path = tree / name
        if path.is_symlink():
            target = named.sub(lambda _: new, os.fsencode(path.readlink()))
            path.unlink()
            path.symlink_to(os.fsdecode(target))
            continue
        mode = path.stat().st_mode
        content = named.sub(lambda _: new, path.read_bytes())
        path.unlink()
        path.write_bytes(content)
        path.chmod(mode)
