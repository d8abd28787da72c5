"""config.toml as text, made from the classes of `config`: nothing is said or defaulted twice.

`python -m alluvium_like.config.text > config.example.toml` writes the example anew.
In the file of a new workspace every key is commented out but those that init has chosen.
"""

import inspect
import sys
import textwrap
from collections.abc import Mapping
from typing import Final

import tomli_w
from pydantic.fields import FieldInfo

from alluvium_like.config.tables import NAMED, RESTART_KEYS, fields, tables
from alluvium_like.config.values import AT_START

_WIDTH: Final = 96
_EXAMPLE_HEAD: Final = (
    "Every setting with its default. Made by 'python -m alluvium_like.config.text': "
    "change the classes, not this file."
)
_INIT_HEAD: Final = (
    "Settings of this workspace. A line such as '#key = value' shows a default: take away its '#' "
    "to change it. 'alluvium-like reload' makes a running daemon read the file again; "
    f"{', '.join(sorted(RESTART_KEYS))} count at its next start."
)


_SAMPLES: Final = {
    "agents": (
        "Further agents, each in a table with a name of its own. They have all the keys of [agent] "
        "but 'profile', with the same defaults.",
        ("[agents.codex]", 'preset = "codex"', 'env = ["CODEX_API_KEY"]', 'fallback = "default"'),
    ),
    "prices": (
        "What models cost, in US dollars for a million tokens, for agents that report tokens only: "
        "their cost is then an estimate, and called so. A model is meant whose name is this, or "
        "begins with it.",
        ('[prices."gpt-5"]', "input = 1.25", "cached = 0.125", "output = 10"),
    ),
}


def render_example() -> str:
    """Return the whole example: every table, key and default, each with its description."""
    return _render(_EXAMPLE_HEAD, chosen=None)


def render_for_init(chosen: Mapping[str, object]) -> str:
    """Return the file of a new workspace; `chosen` maps dotted keys to the values they are set to.

    Raises ValueError when a text cannot be written as UTF-8.
    """
    text = _render(_INIT_HEAD, chosen)
    text.encode("utf-8")
    return text


def _render(head: str, chosen: Mapping[str, object] | None) -> str:
    lines = _comment(head)
    table_now = ""
    for table, key, info in fields():
        if table != table_now:
            lines += ["", *_comment(inspect.getdoc(tables()[table]) or ""), f"[{table}]"]
            table_now = table
        lines += ["", *_comment(_explanation(info))]
        dotted = f"{table}.{key}"
        value = (chosen or {}).get(dotted, info.default)
        mark = "" if chosen is None or dotted in chosen else "#"
        lines += [f"{mark}{line}" for line in _assignment(key, value)]
    for table, (words, sample) in _SAMPLES.items():
        lines += ["", *_comment(words), *(f"#     {line}" for line in sample)]
        keys = NAMED[table].model_fields.items()
        lines += [] if table == "agents" else [f"# {key}: {info.description}" for key, info in keys]
    return "\n".join(lines) + "\n"


def _explanation(info: FieldInfo) -> str:
    text = info.description or ""
    return f"{text} It {AT_START}." if AT_START in info.metadata else text


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False)]


def _assignment(key: str, value: object) -> list[str]:
    line = f"{key} = {_toml(value)}"
    if len(line) <= _WIDTH or not isinstance(value, list | tuple):
        return [line]
    lines: list[str] = []
    for item in value:
        text = f"{_toml(item)},"
        if lines and len(lines[-1]) + 1 + len(text) <= _WIDTH:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return [f"{key} = [", *lines, "]"]  # not indented: '# ' is what begins a comment


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    if type(value) is int:
        return f"{value:_}" if value >= 1_000_000 else str(value)
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


if __name__ == "__main__":
    sys.stdout.write(render_example())
