import itertools
import tomllib
from pathlib import Path

import pytest

from alluvium_like.config import Config, parse_config
from alluvium_like.config.tables import fields
from alluvium_like.config.text import render_example, render_for_init

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def test_the_example_file_is_what_the_classes_say() -> None:
    wanted = "run: python -m alluvium_like.config.text > config.example.toml"
    assert EXAMPLE.read_text(encoding="utf-8") == render_example(), wanted


def test_the_example_holds_every_key_and_loads_to_the_defaults() -> None:
    data = tomllib.loads(render_example())
    assert [f"{table}.{key}" for table in data for key in data[table]] == [
        f"{table}.{key}" for table, key, _ in fields()
    ]
    assert parse_config(data) == Config()


def test_every_key_has_a_comment_and_no_line_is_long() -> None:
    assert all(info.description for _, _, info in fields())
    lines = render_example().splitlines()
    assert max(map(len, lines)) <= 100
    for before, line in itertools.pairwise(lines):
        if line and not line.startswith(("#", '"', "]")):  # the rest of a long list
            assert before.startswith("# ")


def test_a_new_workspace_sets_only_what_was_chosen() -> None:
    chosen: dict[str, object] = {
        "agent.command": ["x", 'a "b"\\\n'],
        "integration.base_branch": "trunk",
    }
    data = tomllib.loads(render_for_init(chosen))
    assert data == {
        "repo": {},
        "agent": {"command": ["x", 'a "b"\\\n']},
        "budget": {},
        "setup": {},
        "integration": {"base_branch": "trunk"},
        "git": {},
        "sandbox": {},
        "safety": {},
        "retention": {},
    }


def test_taking_the_marks_away_gives_the_defaults() -> None:
    lines = render_for_init({}).splitlines()
    opened = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in lines
    )
    assert parse_config(tomllib.loads(opened)) == Config()
    assert opened.count(" = ") >= len(list(fields()))


def test_a_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        render_for_init({"repo.path": "/x/\udcff"})
