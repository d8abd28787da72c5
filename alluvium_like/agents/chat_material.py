"""What a model is given that cannot open files: the input, and of the repository what is cheap.

All of it is bounded. Of the repository, files are shown that the input names or that the task has
changed before, and AGENTS.md, as a commit holds them. Nothing is read through a link.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from alluvium_like.agents.job import Job, look_at
from alluvium_like.agents.patches import Git, open_regular, printable
from alluvium_like.messages.layout import fenced

_MOST_OF_INPUT: Final = 200_000
_MOST_OF_FILES: Final = 200_000
_MOST_OF_ONE: Final = 60_000
_MOST_OF_A_NOTE: Final = 20_000
_MOST_NAMES: Final = 1_000
_ALWAYS: Final = ("AGENTS.md",)
_NOTES: Final = ("attempt.md", "result.md")
_WORD: Final = re.compile(r"[\w./@+-]+")


class _Room:
    """So many bytes of text that may still be shown."""

    def __init__(self, left: int) -> None:
        self._left = left

    def show(self, title: str, path: Path) -> str:
        """Return a file under its title, as far as there is room; why not, where it is not."""
        try:
            with open_regular(path) as stream:
                return self.put(title, stream.read(min(self._left, _MOST_OF_ONE) + 1))
        except OSError as error:
            return f"### `{title}` cannot be read: {error.strerror}"

    def put(self, title: str, raw: bytes) -> str:
        """Return what a file holds under its title."""
        if b"\0" in raw or _is_no_text(raw):
            return f"### `{title}` is no text in UTF-8"
        shown = raw[: min(self._left, _MOST_OF_ONE)]
        self._left -= len(shown)
        text = shown.decode("utf-8", "ignore")
        end = "" if len(raw) == len(shown) else "\n\n(cut off here: there is no room for more)"
        return f"### `{title}`\n\n{fenced(text)}{end}"


def material(job: Job, git: Git, commit: str, rejected: str) -> str:
    """Return all that is shown behind the prompt; of the repository as it is at `commit`.

    `rejected` is an earlier diff that fits it no more. Raises OSError or GitTrouble.
    """
    entries = git.must("ls-tree", "-r", "-z", commit).split("\0")
    tracked = [each.partition("\t")[2] for each in entries if each.startswith("100")]
    shown = _input(job)
    named = _named(shown, tracked)
    changed = _changed(job, git)
    files = [name for name in tracked if name in _ALWAYS or name in changed]
    files += [name for name in named if name not in files]
    room = _Room(_MOST_OF_FILES)
    sections = [
        "# What was dropped\n\n" + (shown or "Nothing."),
        *_earlier(job, rejected),
        "# The repository\n\nIts files:\n\n" + fenced("\n".join(_bounded(tracked))),
        *(room.put(printable(name), git.run("show", f"{commit}:{name}").stdout) for name in files),
    ]
    return "\n\n".join(sections) + "\n"


def _input(job: Job) -> str:
    if not job.input.is_dir():
        return ""
    room = _Room(_MOST_OF_INPUT)
    files = sorted(each.path for each in look_at(job.input) if each.kind == "file")
    return "\n\n".join(room.show(job.name_of(path), path) for path in files[:_MOST_NAMES])


def _named(text: str, tracked: Iterable[str]) -> list[str]:
    """Return the files of the repository that a text names, by path or by a name with a suffix."""
    words = {word.strip(".").removeprefix("./") for word in _WORD.findall(text)}
    return [
        name
        for name in tracked
        if name in words or ("." in Path(name).name and Path(name).name in words)
    ]


def _changed(job: Job, git: Git) -> set[str]:
    """Return what the task's branch has changed so far."""
    base = git.commit(f"refs/heads/{job.base}") if job.base else ""
    if not base:
        return set()
    return set(git.must("diff", "--name-only", "-z", f"{base}...HEAD").split("\0"))


def _earlier(job: Job, rejected: str) -> Iterator[str]:
    """Yield what earlier attempts came to."""
    if (request := job.revision_request()) is not None:
        yield f"# Why the work came back\n\n{fenced(request[:_MOST_OF_A_NOTE])}"
    if rejected:
        yield (
            "# Your earlier change\n\nIt no longer fits: the files below are those of the new "
            f"base, without it. Make it anew, whole.\n\n{fenced(rejected[:_MOST_OF_A_NOTE])}"
        )
    folders = (job.agent_dir / "discovery").glob("attempt-*")
    last = max(folders, key=lambda path: (len(path.name), path.name), default=None)
    room = _Room(_MOST_OF_A_NOTE)
    for name in _NOTES:
        if last is not None and (last / name).is_file():
            yield "# The last attempt\n\n" + room.show(name, last / name)


def _bounded(names: list[str]) -> list[str]:
    left = len(names) - _MOST_NAMES
    shown = [printable(name) for name in names[:_MOST_NAMES]]
    return [*shown, f"… and {left} more"] if left > 0 else shown


def _is_no_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start < len(raw) - 4  # else a letter was cut in two
    return False
