"""What a task may say of itself: where it is found, what is right in it, each mistake in a line."""

import os
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from alluvium_like.config import Config, parse_config
from alluvium_like.config.task_settings import KEYS, Given, Wanted, check_settings
from alluvium_like.inbox.settings import NONE_GIVEN, settings_of
from alluvium_like.stages import claiming
from alluvium_like.stages.parts import Parts, Settings
from alluvium_like.task import TaskSettings
from alluvium_like.workspace import TaskFolder

CONFIG = """
[agents.codex]
preset = "codex"
[agents.script]
command = ["true"]
[integration]
optional_tests = [{name = "e2e", command = "make e2e"}, {name = "slow", command = "make slow"}]
"""
ALL = """
title = "Mend the clock"
agent = "codex"
model = "gpt-5"
priority = 7
timeout_seconds = 90.5
max_cost = 1.5
max_tokens = 1000
labels = ["clock", "bug"]
project = "time"
tests = ["e2e"]
checkpoints = ["landing"]
"""
EVERYTHING = Wanted(
    "codex",
    7,
    TaskSettings(
        *("Mend the clock", "gpt-5", 90.5, 1.5, 1000),
        *(("clock", "bug"), "time", ("e2e",), ("landing",)),
    ),
)


def config() -> Config:
    return parse_config(tomllib.loads(CONFIG))


def check(text: str) -> Wanted:
    return check_settings(Given("task.toml", tomllib.loads(text)), config())


def dropped(folder: Path, name: str, text: str | bytes, *, is_dir: bool) -> Given:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(data)
    return settings_of(folder, is_dir=is_dir)


def test_each_key_is_taken() -> None:
    assert check(ALL) == EVERYTHING
    assert set(tomllib.loads(ALL)) == set(KEYS)
    assert TaskSettings.from_json(EVERYTHING.settings.to_json()) == EVERYTHING.settings


def test_the_record_has_the_keys_of_the_table_beside_its_columns() -> None:
    assert {*TaskSettings.__slots__, "agent", "priority"} == set(KEYS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('title = "a\\nb"', "title: not on one line"),
        ("title = 5", "title: not a text (is 5; allowed: a text in quotes)"),
        ('agent = "nobody"', "agent: config.toml has no agent 'nobody'; it has: default, codex,"),
        (
            'agent = "script"\nmodel = "gpt"',
            "model: script: a command of one's own is not told of a model",
        ),
        ('priority = "high"', "priority: not a whole number (is 'high'; allowed: a whole number"),
        ("priority = 1.5", "priority: not a whole number"),
        ("priority = 1001", "priority: too large (is 1001; allowed: 1000 or less)"),
        ("timeout_seconds = -1", "timeout_seconds: too small (is -1; allowed: 0 or more)"),
        ("timeout_seconds = inf", "timeout_seconds: not finite"),
        ("max_cost = -0.5", "max_cost: too small"),
        ("max_tokens = 0.5", "max_tokens: not a whole number"),
        ('labels = "bug"', "labels: not a list"),
        ('labels = ["a,b"]', "labels: not a label"),
        ("labels = [1]", "labels: not a text"),
        ('project = ["x"]', "project: not a text (is a list"),
        ('tests = ["unit"]', "tests: no test is named 'unit' in integration.optional_tests: e2e,"),
        (
            'checkpoints = ["start"]',
            "checkpoints: not a known value (is 'start'; allowed: 'landing",
        ),
        ('agnet = "codex"', "agnet: unknown key; did you mean 'agent'?"),
        ("zzz = 1", "zzz: unknown key; known here: title, agent,"),
    ],
)
def test_each_mistake_is_one_line_and_what_is_right_beside_it_counts(line: str, said: str) -> None:
    wanted = check(f'{line}\nproject = "time"' if "project" not in line else line)
    (problem,) = wanted.problems
    assert problem.startswith(f"task.toml: {said}"), problem
    assert "\n" not in problem
    assert wanted.settings.project == ("" if "project" in line else "time")
    assert not wanted.settings.model
    assert not wanted.settings.tests


@pytest.mark.parametrize(
    ("name", "text", "is_dir"),
    [
        ("task.toml", 'agent = "codex"\n', True),
        ("wish.md", "---\nagent: codex\n---\n# Do it\n", False),
        ("wish.md", "\ufeff---\r\nagent: codex\r\n---\r\nDo it", False),
        ("WISH.MARKDOWN", '+++\nagent = "codex"\n+++\nDo it', False),
    ],
)
def test_settings_are_found_in_a_folder_and_in_front_of_a_markdown_file(
    tmp_path: Path, name: str, text: str, is_dir: bool
) -> None:
    assert dropped(tmp_path, name, text, is_dir=is_dir).settings == {"agent": "codex"}


@pytest.mark.parametrize(
    ("name", "text", "is_dir"),
    [
        ("task.toml", "[tool.build]\nsteps = 3\n", True),
        ("task.toml", "not toml at all", True),
        ("task.toml", "", True),
        ("task.toml", b"\xff\xfe", True),
        ("task.toml", 'agent = "codex"\n', False),  # the file itself was dropped
        ("wish.md", "# No front matter\n---\nagent: codex\n---\n", False),
        ("wish.md", "---\ntitle: A note\ndate: 2026-01-01\ntags: [a]\n---\ntext", False),
        ("wish.md", "---\nname: x\ndescription: y\ntools: z\nmodel: opus\n---\n", False),
        ("wish.md", "---\nmode: 3\nage: 5\n---\n", False),
        ("task.toml", "[agent]\nx = 1\n[verifier]\n[metadata]\n[environment]\n", True),
        ("wish.md", "---\n- a list\n---\n", False),
        ("wish.md", "---\n[broken yaml: {\n---\n", False),
        ("wish.txt", "---\nagent: codex\n---\n", False),
        ("notes.md", "---\nagent: codex\n---\n", True),
    ],
)
def test_what_is_not_ours_is_plain_input(
    tmp_path: Path, name: str, text: str | bytes, is_dir: bool
) -> None:
    assert dropped(tmp_path, name, text, is_dir=is_dir) == NONE_GIVEN


@pytest.mark.parametrize(
    ("name", "text", "is_dir", "said"),
    [
        ("task.toml", "agent = codex\n", True, "task.toml: cannot be read: Invalid value"),
        ("wish.md", "---\nagent: [\n---\n", False, "front matter: cannot be read: "),
        ("wish.md", "+++\npriority = \n+++\n", False, "front matter: cannot be read: "),
        ("wish.md", "---\nagent: codex\nno end of it", False, "front matter: has no closing '---'"),
        ("wish.md", f"---\nagent: x\n# {'x' * 70_000}\n---\n", False, "front matter: has no clos"),
        ("wish.md", "---\nagent: &a x\n---\n", False, "front matter: cannot be read: line 1: anch"),
        ("wish.md", "---\nagent: !!bool maybe\n---\n", False, "front matter: cannot be read: line"),
        (
            "wish.md",
            "---\nagent: x\nagent: y\n---\n",
            False,
            "front matter: cannot be read: line 2",
        ),
        ("wish.md", '---\nagent: "\\ud800"\n---\n', False, "front matter: cannot be read: holds"),
        ("wish.md", "---\nagent: \xe9\n---\n".encode("latin-1"), False, "front matter: not UTF-8"),
        (
            "task.toml",
            'title = "\xe9"\nagent = "x"\n'.encode("latin-1"),
            True,
            "task.toml: not UTF",
        ),
        ("task.toml", f'agent = "x"\n# {"x" * 70_000}', True, "task.toml: longer than 65536 bytes"),
        (
            "task.toml",
            f"priority = 0x{'F' * 6000}",
            True,
            "task.toml: cannot be read: holds",
        ),
    ],
)
def test_what_looks_like_ours_and_cannot_be_read_is_a_mistake(
    tmp_path: Path, name: str, text: str | bytes, is_dir: bool, said: str
) -> None:
    given = dropped(tmp_path, name, text, is_dir=is_dir)
    assert given.problem.startswith(said)
    assert check_settings(given, config()) == Wanted(problems=(given.problem,))


@pytest.mark.parametrize(
    ("name", "text", "is_dir"),
    [
        ("wish.md", "\ufeff---\nagent: codex\n...\nbody", False),
        ("wish.md", "---\ragent: codex\r---\rbody", False),
        ("wish.md", "---\nagent: codex\n---\n".encode("utf-16"), False),
        ("wish.md", "---\nagent: codex\n---\nB\xe4dy".encode("latin-1"), False),
        ("wish.md", f"---\nagent: codex\n---\n{'x' * 70_000}", False),
        ("task.toml", '\ufeffagent = "codex"', True),
    ],
)
def test_spellings_of_people_and_their_editors_are_understood(
    tmp_path: Path, name: str, text: str | bytes, is_dir: bool
) -> None:
    assert dropped(tmp_path, name, text, is_dir=is_dir).settings == {"agent": "codex"}


@pytest.mark.parametrize(
    ("name", "text", "is_dir"),
    [
        ("task.toml", 'checkpoints = ["Landing"]', True),
        ("task.toml", 'agent = "codex"\ncheckpoint = ["landing"]', True),
        ("task.toml", 'agent = \ncheckpoints = ["landing"]', True),
        ("wish.md", "---\nagent: codex\ncheckpoints: [landing]\n", False),
    ],
)
def test_a_checkpoint_that_cannot_be_understood_is_one(
    tmp_path: Path, name: str, text: str, is_dir: bool
) -> None:
    wanted = check_settings(dropped(tmp_path, name, text, is_dir=is_dir), config())
    assert wanted.problems
    assert wanted.settings.checkpoints == ("landing",)


@pytest.mark.parametrize("value", ["010", "1:30", "0x10", "yes", "2026-01-01", "<<"])
def test_what_looks_like_a_text_is_one(tmp_path: Path, value: str) -> None:
    given = dropped(tmp_path, "wish.md", f"---\nagent: {value}\n---\n", is_dir=False)
    assert given.settings == {"agent": value}


def test_a_bomb_is_refused_at_once(tmp_path: Path) -> None:
    levels = "".join(f"  a{n + 1}: &a{n + 1} {{<<: [*a{n}, *a{n}, *a{n}]}}\n" for n in range(60))
    text = f"---\nagent:\n  a0: &a0 {{b: 1}}\n{levels}---\n"
    assert "anchors and aliases" in dropped(tmp_path, "wish.md", text, is_dir=False).problem


def test_an_item_whose_settings_break_the_reader_is_claimed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> Given:
        raise KeyError("odd")

    monkeypatch.setattr(claiming, "settings_of", stumble)
    parts = SimpleNamespace(settings=Settings(config()))
    found = claiming.Claiming(cast(Parts, parts))._wanted(TaskFolder(tmp_path), is_dir=True)
    assert found.problems == ("its settings cannot be read: KeyError('odd')",)


def test_many_mistakes_are_told_in_a_few_lines() -> None:
    told = check_settings(Given("x", {f"k{n}": n for n in range(4000)}), config()).problems
    assert len(told) == 21
    assert told[-1] == "and 3980 more"


@pytest.mark.parametrize("text", ["prioritty = 5", "agnet = 'codex'", "max_token = 1"])
def test_a_key_that_is_nearly_ours_is_a_mistake_and_no_plain_input(
    tmp_path: Path, text: str
) -> None:
    given = dropped(tmp_path, "task.toml", text, is_dir=True)
    assert "did you mean" in check_settings(given, config()).problems[0]


def test_nothing_planted_in_its_place_is_followed_or_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    (tmp_path / "secret.toml").write_text('agent = "codex"')
    (folder / "task.toml").symlink_to(tmp_path / "secret.toml")
    assert settings_of(folder, is_dir=True) == NONE_GIVEN
    (folder / "task.toml").unlink()
    os.mkfifo(folder / "task.toml")
    assert settings_of(folder, is_dir=True) == NONE_GIVEN
