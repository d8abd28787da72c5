"""Reads config.toml: a whole valid configuration, or every mistake in it at once."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alluvium_like.config.integration import TestCommand
from alluvium_like.config.problems import describe
from alluvium_like.config.tables import NAMED, Config, fields, tables
from alluvium_like.errors import ConfigError


def load_config(path: Path) -> Config:
    """Read `path`; a file that is not there means all defaults. Raises ConfigError."""
    try:
        text = path.read_bytes().decode("utf-8")
        return parse_config(tomllib.loads(text))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError([f"{path.name}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path.name}: not UTF-8 text (byte {error.start})"]) from error
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond all measure
        raise ConfigError([f"{path.name}: not valid TOML: {error}"]) from error


def parse_config(data: Mapping[str, Any]) -> Config:
    """Check tables that were read already. Raises ConfigError with all problems."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        kinds = {**tables(), **NAMED}
        known = {
            name: [info.alias or key for key, info in kind.model_fields.items()]
            for name, kind in kinds.items()
        }
        items = list(TestCommand.model_fields)
        raise ConfigError(
            [describe(mistake, known, NAMED, items) for mistake in error.errors(include_url=False)]
        ) from None


def changed_keys(old: Config, new: Config) -> list[str]:
    """Return the dotted keys whose values differ, in the order of the file."""
    before, after = _by_key(old), _by_key(new)
    once = [key for key, value in before.items() if value != after[key]]
    named = []
    for table in NAMED:
        were, are = getattr(old, table), getattr(new, table)
        names = {**were, **are}
        named += [f"{table}.{n}" for n in names if were.get(n) != are.get(n)]
    return once + named


def _by_key(config: Config) -> dict[str, object]:
    """Return the values of the tables that there are once, by dotted key in the file's order."""
    dumped = {table: getattr(config, table).model_dump(by_alias=True) for table in tables()}
    return {f"{table}.{key}": dumped[table][key] for table, key, _ in fields()}
