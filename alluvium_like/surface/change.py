"""Settings of a task from words of the command line, checked as those of a file are."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from alluvium_like.config import load_config
from alluvium_like.config.problems import guess
from alluvium_like.config.task_settings import KEYS, Given, TaskTable, check_settings
from alluvium_like.errors import UsageError
from alluvium_like.workspace import Workspace

_NUMBERS: Final = {"timeout_seconds": float, "max_cost": float, "max_tokens": int, "priority": int}
_UNSET: Final[Mapping[str, Any]] = TaskTable().model_dump()
_LISTS: Final = {key for key, value in _UNSET.items() if isinstance(value, tuple)}


def changes_of(workspace: Workspace, words: Sequence[str]) -> str:
    """Return what `key=value` words change, as JSON. Raises UsageError or ConfigError."""
    pairs = [word.partition("=") for word in words]
    for key, sign, _ in pairs:
        if not sign:
            raise UsageError(f"'{key}' is no key=value; keys are {', '.join(KEYS)}")
        if key not in KEYS:
            raise UsageError(f"{key}: {guess(key, KEYS)}")
    given = {key: text for key, _, text in pairs}
    settings = parse_settings(workspace, {key: text for key, text in given.items() if text})
    return json.dumps({key: settings.get(key, _UNSET[key]) for key in given})


def parse_settings(workspace: Workspace, words: Mapping[str, str]) -> dict[str, Any]:
    """Return settings that are written as words. Raises UsageError or ConfigError."""
    if not words:
        return {}
    values = {key: _value(key, text) for key, text in words.items()}
    wanted = check_settings(Given("", values), load_config(workspace.config_file))
    if wanted.problems:
        raise UsageError("; ".join(problem.removeprefix(": ") for problem in wanted.problems))
    return values


def _value(key: str, text: str) -> object:
    """Return what a word stands for; one that is no number is left for the check to name."""
    if key in _LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return _NUMBERS[key](text)
    except (KeyError, ValueError):
        return text
