"""codex's settings, as far as they say whom it asks: its config.toml, under what its options say.

A file that is wrong, or not there, says nothing. Its looks block.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from alluvium_like.agents.adapters.base import Told
from alluvium_like.agents.adapters.providers import CHATGPT, bases_in, hosts_at, text_of

_LOCAL: Final = {"ollama": "localhost:11434", "lmstudio": "localhost:1234"}
"""The servers of models that it knows by name."""
_OWN: Final = ("api.openai.com", *CHATGPT)
_LINE_OF_TOML: Final = "value = {}"


def folder_of(environment: Mapping[str, str]) -> Path:
    """Return the folder of its settings."""
    usual = Path(environment.get("HOME", "")) / ".codex"
    return Path(environment.get("CODEX_HOME") or usual)


def settings_in(file: Path) -> Told:
    """Return what its file of settings says."""
    return _toml(text_of(file)) or {}


def hosts_asked(environment: Mapping[str, str], arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the hosts of the provider that is chosen; those of OpenAI where none is."""
    folder, profile = folder_of(environment), _after(arguments, "-p", "--profile") or ""
    settings = settings_in(folder / "config.toml")
    if profile and "/" not in profile:
        _lay_over(settings, settings_in(folder / f"{profile}.config.toml"))
    for path, value in _overrides(arguments):
        _put(settings, path, value)
    # As older versions keep profiles: tables of the one file.
    settings |= _table(settings, "profiles", profile or settings.get("profile"))
    name = settings.get("model_provider", "openai")
    if "--oss" in arguments:
        name = _after(arguments, "--local-provider") or settings.get("oss_provider")
        return bases_in(environment, ("CODEX_OSS_BASE_URL",)) or _local(name)
    named = hosts_at([str(_table(settings, "model_providers", name).get("base_url", ""))])
    if named or (isinstance(name, str) and name in _LOCAL):
        return named or _local(name)
    bases = [str(settings.get(key, "")) for key in ("openai_base_url", "chatgpt_base_url")]
    return (*bases_in(environment, ("OPENAI_BASE_URL",)), *hosts_at(bases), *_OWN)


def _local(name: object) -> tuple[str, ...]:
    return (_LOCAL[name],) if isinstance(name, str) and name in _LOCAL else tuple(_LOCAL.values())


def _overrides(arguments: Sequence[str]) -> Iterator[tuple[list[str], object]]:
    """Yield the settings that options give: a path of keys and a value of TOML, or a plain text."""
    for first, second in pairwise((*arguments, "")):
        flag, equals, told = first.partition("=")
        path, _, text = (told if equals else second).partition("=")
        if flag in ("-c", "--config"):
            value = _toml(_LINE_OF_TOML.format(text))
            yield path.strip().split("."), text if value is None else value["value"]


def _lay_over(settings: Told, more: Told) -> None:
    for key, value in more.items():
        below = settings.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _lay_over(below, value)
        else:
            settings[key] = value


def _put(settings: Told, path: Sequence[str], value: object) -> None:
    for key in path[:-1]:
        inner = settings.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        settings = inner
    settings[path[-1]] = value


def _table(settings: Told, kind: str, name: object) -> Told:
    tables = settings.get(kind)
    table: Any = tables.get(name) if isinstance(tables, dict) and isinstance(name, str) else None
    return table if isinstance(table, dict) else {}


def _after(arguments: Sequence[str], *flags: str) -> str | None:
    """Return the value of an option."""
    for first, second in pairwise((*arguments, "")):
        flag, equals, value = first.partition("=")
        if flag in flags:
            return value if equals else second
    return None


def _toml(text: str) -> Told | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
