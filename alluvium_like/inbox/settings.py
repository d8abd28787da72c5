"""The settings that come with an item: task.toml in a folder, front matter of a Markdown file.

Files of that name that are not ours are plain input: ours is what holds a key that nothing else
means, or keys of ours alone. What looks like ours and cannot be read is a mistake, not plain input.
Nothing is executed and no link followed. All functions block and raise OSError where the machine is
in trouble.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import yaml

from alluvium_like.config.task_settings import KEYS, Given
from alluvium_like.guarded import open_folder, read_regular
from alluvium_like.trouble import trouble_of

FILE_NAME: Final = "task.toml"
_MARKDOWN: Final = (".md", ".markdown")
_MOST_BYTES: Final = 64 * 1024
_SHARED: Final = {"title", "labels", "project"}
"""Keys of ours that front matter of other programs has, too."""
_OWN: Final = [key for key in KEYS if key not in _SHARED]
_FENCE: Final = re.compile(r"(?:---|\+\+\+)[ \t]*\r?\n")
_CLOSE_ENOUGH: Final = 0.75


NONE_GIVEN: Final = Given()


def settings_of(folder: Path, *, is_dir: bool) -> Given:
    """Return what an item says of itself; `folder` is the task's input, `is_dir` what it was."""
    try:
        with open_folder(folder) as opened:
            if is_dir:
                return _of_file(opened, FILE_NAME)
            (name,) = os.listdir(opened)  # noqa: PTH208  relative to what is open
            return _of_markdown(opened, name) if name.lower().endswith(_MARKDOWN) else NONE_GIVEN
    except (FileNotFoundError, NotADirectoryError):
        return NONE_GIVEN


def front_matter(text: str) -> tuple[str, str]:
    """Return the fence and what stands between it and the next one; nothing where there is none."""
    text = text.removeprefix("\ufeff")
    opening = _FENCE.match(text)
    if opening is None:
        return "", ""
    fence = opening[0].strip()
    closing = re.compile(rf"^{re.escape(fence)}[ \t\r]*$", re.MULTILINE).search(text, opening.end())
    return (fence, text[opening.end() : closing.start()]) if closing else ("", "")


def _of_file(folder: int, name: str) -> Given:
    text = _read(folder, name)
    return NONE_GIVEN if text is None else _parse(text, name, tomllib.loads)


def _of_markdown(folder: int, name: str) -> Given:
    fence, text = front_matter(_read(folder, name) or "")
    if not fence:
        return NONE_GIVEN
    return _parse(text, "front matter", yaml.safe_load if fence == "---" else tomllib.loads)


def _parse(text: str, where: str, parse: Callable[[str], object]) -> Given:
    try:
        given = parse(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())[:200]
        ours = _is_ours(re.findall(r"^([A-Za-z_]+)[ \t]*[:=]", text, re.MULTILINE))
        return Given(where, problem=f"{where}: cannot be read: {said}") if ours else NONE_GIVEN
    if not isinstance(given, dict) or not _is_ours(map(str, given)):
        return NONE_GIVEN
    return Given(where, {str(key): value for key, value in given.items()})


def _is_ours(keys: Iterable[str]) -> bool:
    """Tell whether settings are meant for us, their mistakes included."""
    words = list(keys)
    if any(get_close_matches(word, _OWN, n=1, cutoff=_CLOSE_ENOUGH) for word in words):
        return True
    return bool(words) and all(word in KEYS for word in words)


def _read(folder: int, name: str) -> str | None:
    """Return the beginning of a file as text, None where it is no such file."""
    try:
        data = read_regular(folder, name, _MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if trouble_of(error):
            raise
        return None  # for everybody
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError as error:
        return data.decode("utf-8", "ignore") if data and error.start > _MOST_BYTES - 4 else None
