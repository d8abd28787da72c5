"""Patch files applied to a worktree: the work of the built-in agent.

All or nothing: either every patch is applied and committed, or `Refusal` says which one was not
and why, and the caller undoes the rest. Mails keep author and message; plain diffs are committed
under the configured author. Git reads every patch from its standard input, so no file name is
ever taken for an option. Git runs without hooks, signing and the person's own settings: the same
patches give the same commits everywhere.
"""

import errno
import os
import re
import stat
import subprocess
from enum import Enum
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

_MAX_PATCH_BYTES = 64 * 1024 * 1024
_MAX_COMPLAINT_LINES = 20
_SETTINGS = (
    "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "core.fsmonitor=false",
    "-c", "gc.auto=0", "-c", "maintenance.auto=false",
)  # fmt: skip
_SURROUNDINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "LC_ALL": "C",  # complaints are recognised by their English beginnings
}
_AM = ("am", "--3way", "--keep-cr", "--keep-non-patch", "--empty=drop")
_MAIL = re.compile(rb"From (?:[0-9a-f]{40}|[0-9a-f]{64}) ")
_CHANGE = re.compile(rb"^(?:diff --git |--- \S)", re.MULTILINE)
_COMPLAINT = re.compile(r"error:|fatal:|CONFLICT|Patch failed")


class Effect(Enum):
    """What one patch file did."""

    APPLIED = "applied"
    CONTAINED = "already contained in the base, nothing to do"
    EMPTY = "carries no change"


class Refusal(NamedTuple):
    """One patch that could not be applied, and git's own words."""

    patch: Path
    complaint: str


class GitTrouble(Exception):
    """Git itself does not work here; this is no fault of a patch."""


class Git:
    """Git in one worktree."""

    def __init__(self, worktree: Path) -> None:
        inherited = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
        self._environment = inherited | _SURROUNDINGS
        self._worktree = worktree

    def run(self, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run git and return how it ended, whatever that is. Raises OSError."""
        return subprocess.run(
            ["git", *_SETTINGS, *args],
            cwd=self._worktree,
            env=self._environment,
            input=stdin,
            capture_output=True,
            check=False,
        )

    def must(self, *args: str, stdin: bytes = b"") -> str:
        """Run git and return its output. Raises GitTrouble when it fails."""
        ended = self.run(*args, stdin=stdin)
        if ended.returncode:
            raise GitTrouble(f"git {args[0]}: {complaint_of(ended)}")
        return ended.stdout.decode("utf-8", "replace").strip()

    def commit(self, name: str) -> str:
        """Return the commit that `name` stands for, empty when there is none."""
        ended = self.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return ended.stdout.decode("ascii").strip() if ended.returncode == 0 else ""

    def return_to(self, commit: str) -> None:
        """Leave whatever is half done, an unfinished merge too, and stand clean at `commit`."""
        self.run("am", "--quit")
        self.must("reset", "--quiet", "--hard", commit)


def apply_all(git: Git, patches: list[Path]) -> list[Effect] | Refusal:
    """Apply and commit `patches` in their order; stop at the first that cannot be applied."""
    effects = []
    for patch in patches:
        effect = _apply(git, patch)
        if isinstance(effect, Refusal):
            return effect
        effects.append(effect)
    return effects


def apply_diff(git: Git, diff: bytes, subject: str) -> Effect | str:
    """Apply a plain diff and commit it; return git's own words where it does not apply.

    Counts of lines that are wrong are mended: models cannot count.
    """
    start, complaint = git.commit("HEAD"), ""
    for options in ((), ("--recount",)):
        ended = _apply_diff(git, diff, subject, *options)
        if isinstance(ended, Effect):
            return ended
        complaint = complaint or complaint_of(ended)
        git.return_to(start)
    return complaint


def complaint_of(ended: subprocess.CompletedProcess[bytes]) -> str:
    """Return the lines in which git says what is wrong, without its advice."""
    lines = (ended.stderr + ended.stdout).decode("utf-8", "replace").splitlines()
    telling = [line for line in lines if _COMPLAINT.match(line)] or lines or ["no message"]
    return "\n".join(printable(line) for line in telling[:_MAX_COMPLAINT_LINES])


def printable(text: str) -> str:
    """Return `text` with everything that is not plain to see written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, without following a link or waiting for a pipe. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def _apply(git: Git, patch: Path) -> Effect | Refusal:
    content = _read(patch)
    if isinstance(content, str):
        return Refusal(patch, content)
    complaint = ""
    for text in _readings(content):
        start = git.commit("HEAD")
        ended = _am(git, text) if _is_mail(text) else _apply_diff(git, text, f"Apply {patch.name}")
        if isinstance(ended, Effect):
            return ended
        complaint = complaint or complaint_of(ended)
        git.return_to(start)
    return Refusal(patch, complaint)


def _read(patch: Path) -> bytes | str:
    try:
        with open_regular(patch) as stream:
            content = stream.read(_MAX_PATCH_BYTES + 1)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if len(content) > _MAX_PATCH_BYTES:
        return f"the file is larger than {_MAX_PATCH_BYTES} bytes"
    return content


def _readings(content: bytes) -> list[bytes]:
    """Return the ways to read a patch: one whose first line ends in CRLF was converted as a whole.

    In every other patch a CR belongs to the lines of the files that it changes.
    """
    if content.partition(b"\n")[0].endswith(b"\r"):
        return [content.replace(b"\r\n", b"\n"), content]
    return [content]


def _is_mail(content: bytes) -> bool:
    if _MAIL.match(content):
        return True
    headers = b"\n" + content[:65536].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    return b"\nFrom: " in headers and b"\nSubject: " in headers


def _am(git: Git, mails: bytes) -> Effect | subprocess.CompletedProcess[bytes]:
    if not _CHANGE.search(mails):  # a cover letter
        return Effect.EMPTY
    start = git.commit("HEAD")
    ended = git.run(*_AM, stdin=mails)
    while ended.returncode and _is_contained(git, _stopped_at(git)):
        ended = git.run("am", "--skip")
    if ended.returncode:
        return ended
    return Effect.CONTAINED if git.commit("HEAD") == start else Effect.APPLIED


def _stopped_at(git: Git) -> bytes:
    return git.run("am", "--show-current-patch=diff").stdout


def _is_contained(git: Git, diff: bytes) -> bool:
    """Tell whether `diff` could be taken back, so is there already."""
    return git.run("apply", "--check", "--reverse", "--index", stdin=diff).returncode == 0


def _apply_diff(
    git: Git, diff: bytes, subject: str, *options: str
) -> Effect | subprocess.CompletedProcess[bytes]:
    ended = git.run("apply", "--index", "--3way", "--whitespace=nowarn", *options, stdin=diff)
    if ended.returncode:
        return Effect.CONTAINED if _is_contained(git, diff) else ended
    if git.run("diff", "--cached", "--quiet").returncode == 0:
        return Effect.CONTAINED
    message = f"{printable(subject)}\n".encode()
    git.must("commit", "--quiet", "--no-verify", "--file=-", stdin=message)
    return Effect.APPLIED
