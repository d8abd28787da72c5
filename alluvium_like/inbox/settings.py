"""The settings that come with an item: task.toml in a folder, front matter of a Markdown file.

Files of that name that are not ours are plain input: ours holds a key that says how to work, and at
least as many keys of ours as of others. What looks like ours and cannot be read is a mistake, not
plain input. No link is followed. All functions block and raise OSError where the machine is in
trouble.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from alluvium_like.config.task_settings import KEYS, Given
from alluvium_like.guarded import open_folder, read_regular
from alluvium_like.inbox import plain_yaml
from alluvium_like.trouble import trouble_of

FILE_NAME: Final = "task.toml"
NONE_GIVEN: Final = Given()
_FRONT: Final = "front matter"
_MARKDOWN: Final = (".md", ".markdown")
_MOST_BYTES: Final = 64 * 1024
_SHARED: Final = {"title", "labels", "project"}
"""Keys of ours that front matter of other programs has, too."""
_OTHERS: Final = {"mode"}
"""Words of others that are close to ours."""
_CLOSE_ENOUGH: Final = 0.8
_FENCES: Final = {"---": ("---", "..."), "+++": ("+++",)}
_LARGEST_NUMBER: Final = 2**63
_CAUTIOUS: Final = {"checkpoints": ["landing"]}
"""What counts where settings that cannot be read may have asked for it."""


def settings_of(folder: Path, *, is_dir: bool) -> Given:
    """Return what an item says of itself; `folder` is the task's input, `is_dir` what it was."""
    try:
        with open_folder(folder) as opened:
            if is_dir:
                return _of_file(_read(opened, FILE_NAME))
            (name,) = os.listdir(opened)  # noqa: PTH208  relative to what is open
            if name.lower().endswith(_MARKDOWN):
                return _of_markdown(_read(opened, name))
    except (FileNotFoundError, NotADirectoryError):
        pass
    return NONE_GIVEN


def _of_file(data: bytes) -> Given:
    text, problem = _decoded(data)
    if len(data) > _MOST_BYTES:
        problem = f"longer than {_MOST_BYTES} bytes"
    return _refused(text, FILE_NAME, problem) if problem else _parse(text, FILE_NAME, tomllib.loads)


def _of_markdown(data: bytes) -> Given:
    text, problem = _decoded(data)
    first, *lines = text.split("\n")
    fence = first.rstrip(" \t")
    if fence not in _FENCES:
        return NONE_GIVEN
    ends = [n for n, line in enumerate(lines) if line.rstrip(" \t") in _FENCES[fence]]
    if not ends:
        return _refused(text, _FRONT, f"has no closing '{fence}' in its first {_MOST_BYTES} bytes")
    front = "\n".join(lines[: ends[0]])
    if problem and not front.isascii():
        return _refused(front, _FRONT, problem)
    return _parse(front, _FRONT, plain_yaml.load if fence == "---" else tomllib.loads)


def _parse(text: str, where: str, parse: Callable[[str], object]) -> Given:
    try:
        given = parse(text)
        _require_plain(given)
    except (ValueError, RecursionError) as error:
        return _refused(text, where, f"cannot be read: {' '.join(str(error).split())[:200]}")
    if not isinstance(given, dict) or not _is_ours(map(str, given)):
        return NONE_GIVEN
    return Given(where, {str(key): value for key, value in given.items()})


def _refused(text: str, where: str, problem: str) -> Given:
    """Say that settings cannot be read, if they are ours."""
    keys = re.findall(r"^[ \t]*([A-Za-z_]+)[ \t]*[:=]", text, re.MULTILINE)
    if not _is_ours(keys):
        return NONE_GIVEN
    cautious = any(get_close_matches(key, ["checkpoints"], cutoff=_CLOSE_ENOUGH) for key in keys)
    return Given(where, _CAUTIOUS if cautious else {}, f"{where}: {problem}")


def _is_ours(keys: Iterable[str]) -> bool:
    """Tell whether settings are meant for us, their mistakes included."""
    words = list(keys)
    ours = [close for word in words if (close := _meant(word))]
    return bool(set(ours) - _SHARED or len(ours) == len(words)) and 2 * len(ours) >= len(words) > 0


def _meant(word: str) -> str:
    """Return the key that a word is, or nearly is."""
    close = [] if word in _OTHERS else get_close_matches(word, KEYS, n=1, cutoff=_CLOSE_ENOUGH)
    return close[0] if close else ""


def _require_plain(value: object) -> None:
    """Refuse what no setting can be and no store takes. Raises ValueError or RecursionError."""
    match value:
        case dict():
            for key, inside in value.items():
                _require_plain(key)
                _require_plain(inside)
        case list():
            for inside in value:
                _require_plain(inside)
        case str() if re.search("[\ud800-\udfff]", value):
            raise ValueError("holds half a character")
        case int() if abs(value) >= _LARGEST_NUMBER:
            raise ValueError("holds a number that is too large")


def _decoded(data: bytes) -> tuple[str, str]:
    """Return a text with plain line ends, and what is wrong with it where it is not UTF-8."""
    try:
        text, problem = data[:_MOST_BYTES].decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        other = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        text, problem = data.decode(other, "replace"), f"not UTF-8 text (byte {error.start})"
        if error.start > _MOST_BYTES - 4:  # cut in the middle of a character
            text, problem = data[: error.start].decode("utf-8-sig"), ""
    return re.sub("\r\n?", "\n", text), problem


def _read(folder: int, name: str) -> bytes:
    """Return the beginning of a file, nothing where it is no file for everybody."""
    try:
        return read_regular(folder, name, _MOST_BYTES + 1) or b""
    except FileNotFoundError:
        raise
    except OSError as error:
        if trouble_of(error):
            raise
        return b""
