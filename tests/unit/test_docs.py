"""What README, CHANGELOG and the example configuration say is what the program has."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_group

from alluvium_like import __version__
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.cli.app import app
from alluvium_like.config import PLACEHOLDERS, RESTART_KEYS, Config, parse_config
from alluvium_like.config.tables import fields, tables
from alluvium_like.lifecycle import State
from alluvium_like.surface.initialise import AGENTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = CODE_BLOCK.sub("", README)
INLINE = re.findall(r"`([^`\n]+)`", PROSE)
SNIPPETS = [text for language, text in CODE_BLOCK.findall(README) if language == "toml"]
SHELL = [text for language, text in CODE_BLOCK.findall(README) if language == "sh"]
TEST_LINE = re.findall(r"^python3 -m venv .*\.venv/bin/pytest$", README, re.MULTILINE)

# What no command is without.
COMMON_OPTIONS = {"--help", "--install-completion", "--show-completion", "--version"}


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one of its level or above."""
    level, title = heading.split(" ", 1)
    following = rf"^{level} {re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)"
    found = re.search(following, README, re.MULTILINE | re.DOTALL)
    assert found, f"README has no heading '{heading}'"
    return found[1]


def first_cells(heading: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", section(heading), re.MULTILINE)


def commands() -> dict[str, set[str]]:
    """Return every command of the program with its long options; checks that each has help."""
    return dict(_commands(get_group(app), ""))


def _commands(group: TyperGroup, prefix: str) -> Iterator[tuple[str, set[str]]]:
    for name, command in group.commands.items():
        assert command.help, f"'{prefix}{name}' has no help text"
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix}{name} ")
            if not command.invoke_without_command:
                continue
        options = {word for each in command.params for word in each.opts if word[:2] == "--"}
        yield prefix + name, options - COMMON_OPTIONS


# -- commands ----------------------------------------------------------------------------------


def test_readme_has_a_row_for_every_command_and_names_all_its_options() -> None:
    documented = {}
    for cell in first_cells("## Commands"):
        words = re.split(r" (?=[A-Z[<-])", cell, maxsplit=1)
        documented[words[0]] = set(re.findall(r"--[a-z-]+", cell))
    assert documented == commands()


def test_what_readme_tells_to_type_are_commands() -> None:
    names = {name.split()[0] for name in commands()}
    lines = [line for text in SHELL for line in text.splitlines()] + INLINE
    command = re.compile(r"^alluvium-like (?:-C \S+ )?([a-z]\S*)")
    typed = [word for line in lines for word in command.findall(line)]
    assert len(typed) > 10
    assert set(typed) <= names


def test_readme_and_changelog_name_every_command() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name in commands():
        assert f"`{name}`" in changelog, name


def test_readme_explains_every_state_in_their_order() -> None:
    assert first_cells("## How it works") == [state.value for state in State]


def test_readme_names_the_agents_that_init_knows() -> None:
    sentence = re.search(r"`--agent` knows (.*?);", README, re.DOTALL)
    assert sentence
    assert re.findall(r"`([a-z-]+)`", sentence[1]) == list(AGENTS)


def test_readme_names_what_an_agent_is_given() -> None:
    cells = section("### What an agent is given")
    assert re.findall(r"^\| `\{([a-z_]+)\}` \|", cells, re.MULTILINE) == list(PLACEHOLDERS)
    nowhere = Path("/nowhere")
    places = AttemptPlaces("id", nowhere, nowhere, nowhere, "task/id", nowhere)
    for name in places.values():
        assert f"| `{{{name}}}` | `ALLUVIUM_{name.upper()}` |" in cells


# -- configuration -----------------------------------------------------------------------------


def test_the_example_configuration_is_valid_and_is_the_default() -> None:
    example = tomllib.loads((ROOT / "config.example.toml").read_text(encoding="utf-8"))
    assert set(example) == set(tables())
    assert parse_config(example) == Config()


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_of_readme_is_a_valid_configuration(snippet: str) -> None:
    assert parse_config(tomllib.loads(snippet)) != Config()


def test_readme_shows_snippets_of_the_tables_that_people_change() -> None:
    shown = {table for snippet in SNIPPETS for table in tomllib.loads(snippet)}
    assert shown >= {"agent", "integration", "repo", "safety"}


def test_every_key_that_readme_names_exists() -> None:
    known = {f"{table}.{key}" for table, key, _ in fields()}
    names = "|".join(tables())
    named = {
        f"{table}.{key}"
        for code in INLINE
        for table, key in re.findall(rf"^\[?({names})\]?\.([a-z_]+)$", code)
    }
    named.discard("integration.json")  # a file of the agent's folder
    assert named <= known
    assert named >= RESTART_KEYS


# -- links and lines ---------------------------------------------------------------------------


def test_every_relative_link_of_readme_resolves() -> None:
    headings = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 _-]", "", h.lower()).replace(" ", "-") for h in headings}
    links = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        assert (ROOT / path).exists(), link
        assert not anchor or path or anchor in anchors, link


def test_the_changelog_ends_at_the_version_of_the_program() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert versions[0] == __version__ == project["version"]


STUB = """\
#!/bin/sh
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
"""
VENV_STUB = """\
mkdir -p .venv/bin
for tool in pip ruff mypy lint-imports pytest; do cp "$STUBS/tool" ".venv/bin/$tool"; done
printf 'echo "===== 7 passed in 0.10s ====="\\nexit $TESTS_EXIT\\n' >> .venv/bin/pytest
"""


def run_checks(folder: Path, tests_exit: int) -> tuple[int, list[str], list[str]]:
    """Run .ci/run with recording stubs; return its exit code, what it called, and its output."""
    checkout, stubs, calls = folder / "checkout", folder / "stubs", folder / "calls"
    (checkout / ".ci").mkdir(parents=True)
    stubs.mkdir()
    (checkout / "README.md").write_text(README, encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (checkout / ".ci" / "run").write_text(script, encoding="utf-8")
    programs = {"tool": STUB, "python3": STUB + VENV_STUB, "apt-get": "#!/bin/sh\nexit 1\n"}
    for name, text in programs.items():
        (stubs / name).write_text(text, encoding="utf-8")
        (stubs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", checkout / ".ci" / "run"],
        env={
            "PATH": f"{stubs}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "STUBS": str(stubs),
            "TESTS_EXIT": str(tests_exit),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, calls.read_text().splitlines(), done.stdout.splitlines()


def test_the_checks_run_exactly_the_test_line_of_readme_and_end_with_its_counts(
    tmp_path: Path,
) -> None:
    assert TEST_LINE == [
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest"
    ]
    code, calls, output = run_checks(tmp_path, tests_exit=0)
    assert code == 0
    assert f"$ {TEST_LINE[0]}" in output
    assert calls == [
        "python3 tests/agents/install.py codex codex-mcp claude pi mini",
        "python3 -m venv .venv",
        "pip install -q -e .[dev]",
        "pytest ",
        "ruff check .",
        "ruff format --check .",
        "mypy ",
        "lint-imports ",
    ]
    assert output[-1] == "===== 7 passed in 0.10s ====="


def test_the_checks_fail_with_the_tests_and_say_so_at_the_end(tmp_path: Path) -> None:
    code, calls, output = run_checks(tmp_path, tests_exit=3)
    assert code == 3
    assert calls[-1] == "pytest "
    assert output[-2:] == [f"FAILED  {TEST_LINE[0]}", "===== 7 passed in 0.10s ====="]
