"""The folders that each program has to write: its login, its settings, its state."""

from pathlib import Path

import pytest

from alluvium_like.agents.adapters import ADAPTERS

OTHER = ("Library/Application Support/mini-swe-agent/.env",)
"""Logins of other systems."""


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("codex", ".codex"),
        ("claude", ".claude .claude.json"),
        ("pi", ".pi"),
        ("gemini", ".gemini"),
        ("qwen", ".qwen"),
        ("aider", ".aider"),
        ("mini-swe-agent", ".config/mini-swe-agent"),
        (
            "opencode",
            ".config/opencode .local/share/opencode .local/state/opencode .cache/opencode"
            " .opencode",
        ),
        ("goose", ".config/goose .local/share/goose .local/state/goose"),
        ("cursor-agent", ".cursor .config/cursor .local/share/cursor-agent"),
        ("copilot", ".copilot .cache/copilot"),
        ("amp", ".config/amp .local/share/amp .cache/amp"),
        ("chat", ""),
        ("mcp", ""),
    ],
)
def test_folders_lie_below_the_home_folder(program: str, expected: str, tmp_path: Path) -> None:
    adapter = ADAPTERS[program]
    found = adapter.folders({"HOME": str(tmp_path)})
    assert found == tuple(tmp_path / each for each in expected.split())
    assert all(
        any(Path(tmp_path, each).is_relative_to(folder) for folder in found) or each in OTHER
        for each in adapter.login_files
    )
    assert adapter.folders({}) == adapter.folders({"HOME": "relative"}) == ()


@pytest.mark.parametrize(
    ("program", "variable"),
    [
        ("codex", "CODEX_HOME"),
        ("claude", "CLAUDE_CONFIG_DIR"),
        ("pi", "PI_CODING_AGENT_DIR"),
        ("mini-swe-agent", "MSWEA_GLOBAL_CONFIG_DIR"),
        ("copilot", "COPILOT_HOME"),
    ],
)
def test_a_variable_names_another_folder(program: str, variable: str, tmp_path: Path) -> None:
    adapter, home = ADAPTERS[program], str(tmp_path)
    assert adapter.folders({"HOME": home, variable: "/other/place"}) == (Path("/other/place"),)
    assert adapter.folders({"HOME": home, variable: "~/place"}) == (tmp_path / "place",)
    assert adapter.folders({"HOME": home, variable: "place"}) == ()


def test_gemini_has_a_folder_of_its_own_where_it_has_only_a_key(tmp_path: Path) -> None:
    gemini, home = ADAPTERS["gemini"], {"HOME": str(tmp_path)}
    assert gemini.folders({**home, "GEMINI_API_KEY": "k"}) == ()
    assert gemini.folders({**home, "GEMINI_CLI_HOME": "/g"}) == (Path("/g/.gemini"),)


def test_the_folders_of_the_desktop_s_standard_move_with_its_variables(tmp_path: Path) -> None:
    told = {"HOME": str(tmp_path), "XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "relative"}
    assert Path("/data/opencode") in ADAPTERS["opencode"].folders(told)
    assert tmp_path / ".cache/opencode" in ADAPTERS["opencode"].folders(told)
