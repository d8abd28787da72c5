import os
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from alluvium_like.agents.command import AttemptPlaces, fill
from alluvium_like.config import (
    PLACEHOLDERS,
    RESTART_KEYS,
    Config,
    changed_keys,
    load_config,
    parse_config,
)
from alluvium_like.errors import ConfigError


def parsed(text: str) -> Config:
    return parse_config(tomllib.loads(text))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return caught.value.problems


def test_a_missing_file_means_all_defaults(tmp_path: Path) -> None:
    config = load_config(tmp_path / "config.toml")
    assert config == Config()
    assert config.agent.command_line == ("{python}", "-P", "-m", "alluvium_like.agents.builtin")
    assert (config.agent.timeout_seconds, config.agent.retries) == (3600, 1)
    assert (config.safety.max_workers, config.safety.inbox_settle_seconds) == (2, 2)
    assert config.integration.run_tests == ()


def test_a_set_key_leaves_the_others_at_their_defaults() -> None:
    config = parsed("[safety]\nmax_workers = 5\ninbox_settle_seconds = 0.25\n")
    assert (config.safety.max_workers, config.safety.inbox_settle_seconds) == (5, 0.25)
    assert config.safety.shutdown_grace_seconds == 10


def test_a_configuration_is_frozen_all_through() -> None:
    config = parsed('[agent]\nenv = ["A"]\n[agents.x]\npreset = "codex"')
    with pytest.raises(ValidationError):
        config.agent.retries = 3
    assert hash(config.safety)
    with pytest.raises(TypeError):
        config.agents["y"] = config.agent  # type: ignore[index]


def test_tests_take_both_shapes() -> None:
    config = parsed(
        '[integration]\nrun_tests = ["make check\\nmake lint", '
        '{command = "x", timeout_seconds = 0.5}, {name = "unit", command = "y"}]'
    )
    tests = config.integration.run_tests
    assert [(test.name, test.command, test.timeout_seconds) for test in tests] == [
        ("make check", "make check\nmake lint", 1800),
        ("x", "x", 0.5),
        ("unit", "y", 1800),
    ]


def test_every_mistake_is_told_at_once() -> None:
    found = problems(
        """
        [agent]
        timeout_seconds = 0
        retries = -1
        [git]
        author_name = "<>"
        [safety]
        max_workers = "two"
        """
    )
    assert found == [
        "config.toml: [agent].timeout_seconds: too small (is 0; allowed: more than 0)",
        "config.toml: [agent].retries: too small (is -1; allowed: 0 or more)",
        "config.toml: [git].author_name: not usable in a commit "
        "(is '<>'; allowed: some text on one line without < and >)",
        "config.toml: [safety].max_workers: not a whole number "
        "(is 'two'; allowed: a whole number such as 2)",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[agent]\nretries = true", "not a whole number (is true;"),
        ('[agent]\nretries = "3"', "not a whole number (is '3';"),
        ("[agent]\nretries = 1.0", "not a whole number (is 1.0;"),
        ("[agent]\ntimeout_seconds = true", "not a number (is true;"),
        ('[agent]\ntimeout_seconds = "9"', "not a number (is '9';"),
        ("[agent]\ntimeout_seconds = nan", "not finite (is NaN;"),
        ("[agent]\ntimeout_seconds = inf", "not finite (is Infinity;"),
        ("[agent]\nretry_delay_seconds = -0.1", "too small (is -0.1; allowed: 0 or more)"),
        ("[agent]\ntimeout_seconds = 2024-01-01", 'not a number (is "2024-01-01";'),
        ('[agent]\ncommand = [" ", "x"]', "[agent].command: empty"),
        ('[agents.x]\npreset = "codx"', "[agents.x].preset: not a known value (is 'codx';"),
        ("[agents.x]\nretries = -1", "[agents.x].retries: too small (is -1; allowed: 0 or more)"),
        ('[agents.x]\ncommand = ["a", 3]', "[agents.x].command[1]: not a text (is 3;"),
        ("[agents]\nx = 3", "[agents.x]: not a table (is 3;"),
        ("agents = 5", "[agents]: not a table (is 5; allowed: a table of keys and values)"),
        ("[[agents]]\npreset = 'pi'", "[agents]: not a table (is a list;"),
        ('prices = "no"', "[prices]: not a table (is 'no';"),
        ('[agent]\nenv = ["A", "B", "A=1"]', "[agent].env: names A twice (is a list;"),
        ('[agents.x]\nenv = ["A=1", "A=1"]', "[agents.x].env: names A twice"),
        ('[agents.x]\nenv = ["B", "ALLUVIUM_X=1"]', "[agents.x].env[1]: begins with ALLUVIUM_,"),
        ('[agent]\nenv = ["ALLUVIUM_TASK_ID"]', "[agent].env[0]: begins with ALLUVIUM_, which"),
        ('[agents."A b"]\npreset = "pi"', "[agents.A b]: not a name for an agent (is 'A b';"),
        ('[agents.default]\npreset = "pi"', "[agents.default]: not a name for an agent"),
        ('[agents.x]\nmodel = "m"', "[agents.x]: arguments or model without a preset"),
        ('[agent]\narguments = ["-q"]', "[agent]: arguments or model without a preset"),
        ("[agents.x]\nmax_cost = -1", "[agents.x].max_cost: too small"),
        ("[budget]\nmax_tokens = 1.5", "[budget].max_tokens: not a whole number"),
        ('[prices."gpt-5"]\ninput = "2"', "[prices.gpt-5].input: not a number (is '2';"),
        ('[agent]\nprofile = "x"', "agent.profile is 'x', which is no agent; there are default"),
        (
            '[agents.x]\npreset = "pi"\nfallback = "y"',
            "fallback of x is 'y', which is no agent; there are default, x",
        ),
        (
            '[agents.x]\npreset = "pi"\nfallback = "y"\n[agents.y]\npreset = "pi"\nfallback = "x"',
            "the fallbacks of agents go in a circle: x → y → x",
        ),
        ('[agents.x]\npreset = "pi"\nmodel = "a\\u0000b"', "[agents.x].model: not on one line"),
        ('[agent]\npreset = "pi"\nmodel = "a\\nb"', "[agent].model: not on one line"),
        ('[agent]\nfallback = "a\\nb"', "[agent].fallback: not on one line"),
        ('[agent]\nprofile = "a\\rb"', "[agent].profile: not on one line"),
        ('[agent]\npreset = "a\\u0000b"', "[agent].preset: not a known value"),
        ('[agent]\nfallback = "default"', "go in a circle: default → default"),
        ('[agent]\ncommand = "make"', "[agent].command: not a list"),
        ('[agent]\ncommand = ["a", 3]', "[agent].command[1]: not a text (is 3;"),
        ('[agent]\ncommand = ["a\\u0000b"]', "[agent].command[0]: holds a NUL character"),
        ("[integration]\nenabled = 1", "neither true nor false (is 1; allowed: true, false)"),
        ('[integration]\nmerge_style = "rebase"', "(is 'rebase'; allowed: 'squash' or 'merge')"),
        ('[integration]\nbase_branch = "refs/heads/x"', "not the short name of a branch"),
        ('[integration]\nbase_branch = "a..b"', "not a name that a branch can have"),
        ('[integration]\nbase_branch = "-f"', "not a name that a branch can have"),
        ("[integration]\nrun_tests = [4]", "[integration].run_tests[0]: not a command (is 4;"),
        ('[integration]\nrun_tests = [{name = "x"}]', "run_tests[0].command: missing"),
        ('[integration]\nrun_tests = [" "]', "run_tests[0].command: empty"),
        ('[repo]\npath = ""', "[repo].path: empty (is ''; allowed: some text)"),
        ('[repo]\npath = "~nobody-of-that-name/x"', "names the home of an unknown user"),
        ('[safety]\nignore_name_suffixes = [""]', "ignore_name_suffixes[0]: empty"),
        ("agent = 3", "[agent]: not a table (is 3;"),
        ("[[agent]]\nretries = 1", "[agent]: not a table (is a list;"),
    ],
)
def test_a_wrong_value_is_told_with_place_value_and_what_is_allowed(text: str, told: str) -> None:
    (line,) = problems(text)
    assert line.startswith("config.toml: ")
    assert told in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[agent]\ntimeout = 3", "[agent].timeout: unknown key; did you mean 'timeout_seconds'?"),
        ("[agent]\nmax_workers = 3", "unknown key; did you mean 'max_workers' in [safety]?"),
        ("[agnet]\nretries = 1", "[agnet]: unknown table; did you mean 'agent'?"),
        (
            "[quux]\nx = 1",
            "[quux]: unknown table; known here: repo, agent, budget, setup",
        ),
        ("[git]\nquux = 1", "[git].quux: unknown key; known here: author_name, author_email"),
        ("retries = 3", "retries: unknown key; did you mean 'retries' in [agent]?"),
        ("[agents.x]\ntimeout = 3", "[agents.x].timeout: unknown key; did you mean 'timeout_se"),
        ('[agents.x]\nprofile = "y"', "[agents.x].profile: unknown key; did you mean 'profile' in"),
        ("[prices.x]\noutputs = 3", "[prices.x].outputs: unknown key; did you mean 'output'?"),
        (
            '[integration]\nrun_tests = [{command = "x", nmae = "y"}]',
            "[integration].run_tests[0].nmae: unknown key; did you mean 'name'?",
        ),
        ('[git]\n"a\\u001b[31m" = 1', r"[git].'a\x1b[31m': unknown key"),
    ],
)
def test_an_unknown_name_is_a_mistake_with_a_suggestion(text: str, told: str) -> None:
    (line,) = problems(text)
    assert told in line


def test_an_unknown_placeholder_is_a_mistake_with_a_suggestion() -> None:
    (line,) = problems('[agent]\ncommand = ["x", "--in={task_dri}"]')
    assert (
        "[agent].command[1]: unknown placeholder '{task_dri}'; did you mean '{task_dir}'?" in line
    )


def test_braces_that_are_no_placeholders_are_left_alone() -> None:
    command = ["x", '{"a": {"b": 1}}', "${HOME}", "{}", "{ task_dir }", "{1}", "{worktree}/x"]
    assert parse_config({"agent": {"command": command}}).agent.command == tuple(command)


def test_every_placeholder_is_really_filled(tmp_path: Path) -> None:
    places = AttemptPlaces("id", tmp_path, tmp_path, tmp_path, "task/id", tmp_path)
    for name in PLACEHOLDERS:
        assert fill(f"{{{name}}}", places) != f"{{{name}}}"


@pytest.mark.parametrize(
    "text",
    [
        '[agent]\nenv = ["OPENAI API KEY=hush-4711"]',
        '[agents.x]\nenv = ["OPENAI API KEY=hush-4711"]',
        '[agents.x]\ncommand = ["x", "--key=hush-4711{oops}"]',
        '[agent]\nenv = "hush-4711"',
        '[agent]\ncommand = "x --key hush-4711"',
        '[agent]\ncommand = ["x", "--key=hush-4711{oops}"]',
        '[agent]\napi_key = "hush-4711"',
        '[integration]\nrun_tests = "KEY=hush-4711 make"',
        '[integration]\nrun_tests = [{command = "KEY=hush-4711 x\\u0000"}]',
    ],
)
def test_what_can_be_a_secret_is_never_repeated(text: str) -> None:
    assert "hush-4711" not in "".join(problems(text))


def test_a_long_value_is_cut() -> None:
    (line,) = problems(f'[integration]\nmerge_style = "{"x" * 5000}"')
    assert len(line) < 200


def test_a_syntax_error_names_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[agent]\nretries = = 3\n")
    with pytest.raises(ConfigError, match=r"not valid TOML: .*line 2, column 11"):
        load_config(file)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[agent]\n# \xff\n", r"not UTF-8 text \(byte 10\)"),
        (b"x = " + b"[" * 20_000, "not valid TOML"),
        (b"x = " + b"9" * 5_000, "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_one_line(tmp_path: Path, data: bytes, told: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=told) as caught:
        load_config(file)
    assert len(caught.value.problems) == 1


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"config.toml: cannot be read: Is a directory"):
        load_config(tmp_path / "config.toml")


def test_changed_keys_are_named_and_those_for_a_restart_are_known() -> None:
    old = Config()
    new = parsed('[repo]\npath = "x"\n[agent]\nretries = 3\n[integration]\nrun_tests = ["x"]')
    assert changed_keys(old, old) == []
    assert changed_keys(old, new) == ["repo.path", "agent.retries", "integration.run_tests"]
    assert {
        "repo.path",
        "integration.base_branch",
        "retention.log_bytes",
        "retention.log_files",
    } == RESTART_KEYS


def test_the_repository_is_relative_to_the_workspace_or_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Config().repo.at(tmp_path) == tmp_path / "repo"
    assert parsed('[repo]\npath = "/x/y"').repo.at(tmp_path) == Path("/x/y")
    assert parsed('[repo]\npath = "~/y"').repo.at(tmp_path) == Path("/home/me/y")


def test_a_name_stands_for_what_its_table_says_and_the_default_for_agent() -> None:
    config = parsed(
        '[agent]\nprofile = "x"\n[agents.x]\npreset = "codex"\n'
        'env = ["KEY", "NO_COLOR=1", "EMPTY=", "PAIR=a=b"]'
    )
    assert list(config.profiles) == ["default", "x"]
    assert [config.chosen(name) for name in ("", "default", "x")] == ["x", "default", "x"]
    assert config.agents["x"].passed == ("KEY",)
    assert config.agents["x"].fixed == {"NO_COLOR": "1", "EMPTY": "", "PAIR": "a=b"}


def test_an_empty_command_is_the_presets_own_or_the_built_in_agent() -> None:
    config = parsed('[agent]\ncommand = []\n[agents.x]\npreset = "codex"\ncommand = []')
    assert config.agent == Config().agent
    assert config.agents["x"].command_line == ()


@pytest.mark.parametrize(
    ("path", "home", "wrong"),
    [
        (".", "/home/somebody", "neither an absolute path nor one in the home folder"),
        ("~", "/home/somebody", "a whole disk or home folder"),
        ("~/.npmrc", "", "in the home folder of a user who has none"),
    ],
)
def test_what_a_box_cannot_show_is_refused(
    path: str, home: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda text: text.replace("~", home or "~", 1))
    (told,) = problems(f'[sandbox]\nreadable = ["{path}"]')
    assert wrong in told
