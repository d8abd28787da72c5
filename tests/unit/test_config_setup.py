"""The table [setup] of config.toml, and its mistakes."""

import tomllib

import pytest

from alluvium_like.config import parse_config
from alluvium_like.config.load import changed_keys
from alluvium_like.errors import ConfigError


def test_commands_have_the_shape_of_tests_and_the_table_s_deadline() -> None:
    setup = parse_config(
        tomllib.loads(
            "[setup]\ntimeout_seconds = 5\n"
            'run = ["a", {command = "b", timeout_seconds = 1, name = "c"}]\n'
            'copy = ["./.env"]\nkeep = ["web/node_modules/"]'
        )
    ).setup
    assert [(each.name, each.timeout_seconds) for each in setup.commands] == [("a", 5), ("c", 1)]
    assert setup.private == (".env", "web/node_modules")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('copy = ["/etc/passwd"]', "[setup].copy[0]: not a path inside the repository's folder"),
        ('copy = ["a/../../x"]', "[setup].copy[0]: not a path inside"),
        ('copy = ["."]', "[setup].copy[0]: not a path inside"),
        ('keep = [".git/hooks"]', "[setup].keep[0]: in .git"),
        ('keep = ["*.env"]', "[setup].keep[0]: holds a character that patterns are made of"),
        ('copy = ["a", "a/b"]', "[setup].copy: names a/b twice"),
        ('run = ["secret-command", 4]', "[setup].run[1]: not a command (is 4;"),
        ('run = [{command = "x", timeout = 4}]', "unknown key; did you mean 'timeout_seconds'?"),
        ('env = ["ALLUVIUM_X=1"]', "[setup].env[0]: begins with ALLUVIUM_"),
        ("first_port = 30000", "last_port leaves no room"),
        ("first_port = 80", "[setup].first_port: too small"),
        ("copied = []", "[setup].copied: unknown key; did you mean 'copy'?"),
    ],
)
def test_a_mistake_is_named_where_it_is(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(tomllib.loads(f"[setup]\n{text}"))
    assert said in str(caught.value)
    assert "secret-command" not in str(caught.value)


def test_a_change_is_named_as_it_is_written() -> None:
    old = parse_config({})
    new = parse_config({"setup": {"copy": [".env"], "run": ["x"]}})
    assert changed_keys(old, new) == ["setup.copy", "setup.run"]


@pytest.mark.parametrize(
    "file",
    ["package.json", "Gemfile", "Cargo.toml", "go.mod", "composer.json", "Pipfile", "mix.exs"],
)
def test_what_a_lock_file_is_made_from_counts_as_well(file: str) -> None:
    """What is kept must not hide that somebody changed one and forgot the other."""
    assert file in parse_config({}).setup.lock_files
