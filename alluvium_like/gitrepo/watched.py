"""What is looked at around a run of an agent's: what git obeys or executes, and our refs.

Everything is read as data: no link is followed, nothing is waited for. `Files` of two moments are
compared by content, refs by value, however they are stored. What an owner's everyday commands write
into a configuration is the owner's right. The functions that read block and raise OSError where the
machine is in trouble.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from alluvium_like.clock import time_of_day
from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.runner import Git, first_line, null_split
from alluvium_like.gitrepo.workshop import is_object_id, walk
from alluvium_like.trouble import trouble_of
from alluvium_like.written import Print

Files = Mapping[str, bytes]
"""Names in a repository, with the content of configurations, a digest of everything else."""

CONFIGS: Final = ("config", "config.worktree")
_OURS: Final = ("HEAD", "info/exclude", "info/grafts", "objects/info/http-alternates")
_BOTH: Final = (*CONFIGS, "info/attributes", "objects/info/alternates")
_MOST_BYTES: Final = 1 << 20
_RACY_NS: Final = 50_000_000
"""A file that is younger when it is read may change without its fingerprint doing so."""
_OWNERS: Final = re.compile(
    r"branch\..*"  # git branch -u, git push -u, git checkout -b, and what editors add there
    r"|remote\..*\.gh-resolved|lfs\.(repositoryformatversion|.*\.(access|locksverify))"
    r"|core\.sparsecheckout(cone)?|index\.sparse",
    re.DOTALL,
)
_LFS_HOOK: Final = re.compile(
    rb"#!/bin/sh\n(command -v git-lfs >/dev/null 2>&1 \|\| \{ (printf|echo) >&2"
    rb"( \"[^\"`$]*\")+; exit [0-9]; \}\n)?"
    rb"git lfs (pre-push|post-checkout|post-commit|post-merge) \"\$@\"\n?"
)
EVERYDAY_HOOK: Final = b"lfs"
"""Stands for a hook of Git LFS, which installs them by itself, in a landing too."""
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_owners(git_dir: Path, hooks: Path | None) -> Files:
    """Read what git obeys in the owner's repository; `hooks` is a further folder of hooks.

    Not info/exclude: it hides files from people and can do nothing else.
    """
    found = dict(_read_all(git_dir, _BOTH))
    for tree in _names(git_dir / "worktrees"):
        found |= _read_all(git_dir, (f"worktrees/{tree}/config.worktree",))
    found |= _hooks(git_dir / "hooks", "hooks")
    return found if hooks is None else found | dict(_hooks(hooks, os.fspath(hooks)))


def read_config(git_dir: Path) -> bytes:
    """Read the configuration of a repository, empty where there is none."""
    return _content(os.fspath(git_dir / CONFIGS[0])) or b""


def read_ours(git_dir: Path) -> Files:
    """Read what git obeys in a repository of ours; nothing of it changes by itself."""
    return dict(_read_all(git_dir, (*_BOTH, *_OURS))) | dict(_hooks(git_dir / "hooks", "hooks"))


def read_refs(git_dir: Path, known: dict[str, tuple[Print, str]]) -> dict[str, str]:
    """Read all refs. `known`, by file, saves reading what is as it was; it is kept up to date."""
    fresh: dict[str, tuple[Print, str]] = {}
    now = int(time_of_day() * 1e9)
    refs: dict[str, str] = {}
    # Loose ones first: packing them writes the pack before it takes them away.
    for entry in walk(git_dir / "refs"):
        if entry.is_dir(follow_symlinks=False) or entry.name.endswith(".lock"):
            continue
        with suppress(FileNotFoundError):
            facts = entry.stat(follow_symlinks=False)
            name = entry.path[len(os.fspath(git_dir)) + 1 :]
            refs[name] = _once(entry.path, facts, known, fresh, now)
    packed = os.fspath(git_dir / "packed-refs")
    with suppress(FileNotFoundError):
        for line in _once(packed, os.lstat(packed), known, fresh, now).split("\n"):
            commit, _, name = line.partition(" ")
            if is_object_id(commit):
                refs.setdefault(name, commit)
    known.clear()
    known |= fresh
    return refs


async def hooks_folder(git: Git, git_dir: Path, tree: Path, config: bytes) -> Path | None:
    """Return where else hooks are, None where that is a work tree: there, landings write too."""
    if b"hookspath" not in config.lower():
        return None
    try:
        words = ("--local", "--includes", "--type=path", "--get", "core.hooksPath")
        done = await git.run("config", *words, git_dir=git_dir, accept=frozenset({0, 1}))
    except GitFailed:  # not to be understood: the configuration itself is looked at
        return None
    folder = Path(os.path.normpath(tree / first_line(done)))
    return None if folder == git_dir / "hooks" or folder.is_relative_to(tree) else folder


async def changed_settings(git: Git, before: bytes, now: bytes) -> tuple[list[str], list[str]]:
    """Return which keys two configurations differ in: an owner's everyday ones, and all others."""
    keys = sorted({key for key, _ in await _settings(git, before) ^ await _settings(git, now)})
    everyday = [key for key in keys if _OWNERS.fullmatch(key)]
    return everyday, [key for key in keys if key not in everyday]


def differ(before: Files, now: Files) -> list[str]:
    """Return the names under which something changed, appeared or is gone."""
    return sorted(n for n in before.keys() | now.keys() if before.get(n) != now.get(n))


async def _settings(git: Git, config: bytes) -> set[tuple[str, str]]:
    try:
        words = ("config", "--no-includes", "--file", "-", "--list", "--null")
        done = await git.run(*words, stdin=config)
    except GitFailed:
        return {("what git cannot read", config.decode(errors="replace"))}
    pairs = (entry.partition("\n") for entry in null_split(done.stdout))
    counted: dict[tuple[str, str], int] = {}
    for key, given, value in pairs:
        pair = (key, f"{given}{value}")
        counted[pair] = counted.get(pair, 0) + 1
    return {(key, f"{times} {value}") for (key, value), times in counted.items()}


def _once(
    path: str,
    facts: os.stat_result,
    known: Mapping[str, tuple[Print, str]],
    fresh: dict[str, tuple[Print, str]],
    now: int,
) -> str:
    """Read a file of refs, unless it is as it was when it was read before."""
    was, text = known.get(path, (None, ""))
    seen = Print.of(facts)
    if seen != was:
        text = (_content(path) or b"").decode(errors="replace").strip()
    if now - seen.changed > _RACY_NS:
        fresh[path] = (seen, text)
    return text


def _read_all(git_dir: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        content = _content(os.fspath(git_dir / name))
        if content is not None:
            is_config = name.endswith(CONFIGS)
            yield name, content if is_config else _digest(content)


def _hooks(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """Read the hooks: names, what they hold, and whether they may be run; no sample is."""
    if folder.is_symlink():
        yield name, _content(os.fspath(folder)) or b""
        return
    for hook in _names(folder):
        path = folder / hook
        if hook.endswith(".sample"):
            continue
        content = _content(os.fspath(path)) or b""
        try:
            mode = stat.S_IMODE(path.lstat().st_mode) & 0o111
        except FileNotFoundError:
            continue
        everyday = _LFS_HOOK.fullmatch(content)
        yield f"{name}/{hook}", EVERYDAY_HOOK if everyday else b"%o %b" % (mode, _digest(content))


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _content(path: str) -> bytes | None:
    """Return what a file holds, or for whatever else stands there what it is; None for nothing."""
    try:
        descriptor = os.open(path, _FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if trouble_of(error):
            raise
        with suppress(OSError):
            return b"a link to " + os.fsencode(Path(path).readlink())
        return f"cannot be read: {error.strerror}".encode()
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return b"no file: %o" % stat.S_IFMT(facts.st_mode)
        if facts.st_size > _MOST_BYTES and not path.endswith("packed-refs"):
            return repr(Print.of(facts)).encode()
        return stream.read()


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError as error:
        if trouble_of(error):
            raise
        return []
