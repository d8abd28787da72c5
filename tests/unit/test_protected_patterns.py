"""Patterns of protected paths: what would protect nothing is refused in one line."""

import pytest

from alluvium_like.config.load import parse_config
from alluvium_like.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (" .github/", "begins or ends with a space"),
        (".github/ ", "begins or ends with a space"),
        ("a\\b", "a backslash"),
        ("x[^a]", "opens no plain set"),
        ("x[[:alpha:]]", "opens no plain set"),
        ("x[a", "opens no plain set"),
        ("x[a/b]", "opens no plain set"),
        ("./Makefile", "not a path of the repository"),
        ("../x", "not a path of the repository"),
        ("a//b", "not a path of the repository"),
        ("/", "not a path of the repository"),
        ("!x", "an exception"),
    ],
)
def test_a_pattern_that_would_match_nothing_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config({"integration": {"protected_paths": ["ok", pattern]}})
    (line,) = refused.value.problems
    assert line.startswith("config.toml: [integration].protected_paths")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("pattern", ["/a/", "[mM]ake*", "x[!a-z]?", "a/**/b c", "[]a]", "Größe/"])
def test_a_pattern_with_a_meaning_is_taken(pattern: str) -> None:
    config = parse_config({"integration": {"protected_paths": [pattern]}})
    assert config.integration.protected_paths == (pattern,)
