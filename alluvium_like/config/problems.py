"""What a mistake in config.toml is called when a person is told about it.

Pure: one validation error in, one line out. Values are shown only where they cannot be secrets.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, NoReturn

from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SAY: Final = "say"  # the type of our own errors; `what` and `allowed` are in their context

_TABLE = ("not a table", "a table of keys and values")
_NUMBER = ("not a number", "a number such as 2 or 0.5")
_WHOLE = ("not a whole number", "a whole number such as 2")
_EXPLAINED: Final[Mapping[str, tuple[str, str]]] = {
    _SAY: ("{what}", "{allowed}"),
    "bool_type": ("neither true nor false", "true, false"),
    "dict_type": _TABLE,
    "finite_number": ("not finite", "a finite number"),
    "float_type": _NUMBER,
    "greater_than": ("too small", "more than {gt:g}"),
    "greater_than_equal": ("too small", "{ge:g} or more"),
    "less_than_equal": ("too large", "{le:g} or less"),
    "too_long": ("too many", "{max_length} at most"),
    "int_from_float": _WHOLE,
    "int_type": _WHOLE,
    "literal_error": ("not a known value", "{expected}"),
    "missing": ("missing", "a value is needed"),
    "model_type": _TABLE,
    "string_type": ("not a text", "a text in quotes"),
    "tuple_type": ("not a list", 'a list such as ["a", "b"]'),
}
_NEVER_SHOWN: Final = {
    "command",
    "arguments",
    "env",
    "run_tests",
    "run",
    "base_url",
    "key",
    "tool_arguments",
}


def refuse(what: str, allowed: str) -> NoReturn:
    """Raise, inside a validator, a mistake that `describe` puts into these words."""
    raise PydanticCustomError(_SAY, "{what}", {"what": what, "allowed": allowed})


def describe(
    mistake: "ErrorDetails",
    known: Mapping[str, Sequence[str]],
    named: Collection[str],
    test_keys: Sequence[str],
) -> str:
    """Return one line for a validation error; `known` maps the tables to their keys.

    `named`: those tables of which there may be several.
    """
    loc = [part for part in mistake["loc"] if part != "[key]"]
    if not loc:  # about the whole file
        return f"config.toml: {mistake.get('ctx', {}).get('what', mistake['msg'])}"
    first = str(loc[0])
    if first in named and len(loc) > 1:
        title = f"{first}.{loc[1]}"
        loc[:2] = [title]
        known = {**known, title: known[first]}
    where = _where(loc, isinstance(mistake["input"], dict) or loc[0] in known)
    if mistake["type"] == "extra_forbidden":
        return f"config.toml: {where}: {_unknown(mistake, loc, known, test_keys)}"
    return f"config.toml: {where}: {explain(mistake)}"


def explain(mistake: "ErrorDetails") -> str:
    """Say what is wrong with a value, what it is, and what would be right."""
    default = (mistake["msg"], "see config.example.toml")
    what, allowed = _EXPLAINED.get(mistake["type"], default)
    context = mistake.get("ctx", {})
    return f"{what.format(**context)} ({_shown(mistake)}; allowed: {allowed.format(**context)})"


def guess(word: str, keys: Sequence[str], kind: str = "key") -> str:
    """Say that a key is unknown, and which may be meant."""
    if close := get_close_matches(word, keys, n=1):
        return f"unknown {kind}; did you mean '{close[0]}'?"
    return f"unknown {kind}; known here: {', '.join(keys)}"


def _where(loc: Sequence[int | str], table: bool) -> str:
    first = shown(str(loc[0]))
    text = f"[{first}]" if table else first
    for part in loc[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}"
    return text


def shown(key: str) -> str:
    """Return a key as it can be shown on a line."""
    return key if key.isprintable() else repr(key)


def _unknown(
    mistake: "ErrorDetails",
    loc: Sequence[int | str],
    known: Mapping[str, Sequence[str]],
    test_keys: Sequence[str],
) -> str:
    word = str(loc[-1])
    is_table = len(loc) == 1 and isinstance(mistake["input"], dict)
    keys = list(known) if is_table else test_keys if len(loc) > 2 else known.get(str(loc[0]), [])
    kind = "table" if is_table else "key"
    homes = [] if is_table else [table for table, own in known.items() if word in own]
    if homes:
        return f"unknown key; did you mean '{word}' in [{homes[0]}]?"
    return guess(word, keys or [f"[{table}]" for table in known], kind)


def _shown(mistake: "ErrorDetails") -> str:
    value = mistake["input"]
    if mistake["type"] == "missing":
        return "is not there"
    if isinstance(value, dict | list | tuple):
        return "is a table" if isinstance(value, dict) else "is a list"
    if isinstance(value, str) and not _NEVER_SHOWN.isdisjoint(mistake["loc"]):
        return "its text is not shown"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return f"is {text if len(text) <= 40 else text[:37] + '...'}"
