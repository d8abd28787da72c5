import subprocess
import tomllib
from pathlib import Path

import pytest

from alluvium_like.agents.prompt import default_template
from alluvium_like.config import load_config
from alluvium_like.config.agents import BUILTIN
from alluvium_like.errors import AlluviumError, ConfigError, UsageError, WorkspaceError
from alluvium_like.gitrepo.owner import create_repository, inspect_repository
from alluvium_like.surface.initialise import AGENTS, initialise
from alluvium_like.workspace import Workspace


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def owned(path: Path, branch: str) -> Path:
    create_repository(path, "Ann", "ann@example.org")
    subprocess.run(["git", "branch", "-q", "-m", branch], cwd=path, check=True)
    return path


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_workspace_is_complete(tmp_path: Path, exists: bool) -> None:
    root = tmp_path / "a" / "w"
    if exists:
        root.mkdir(parents=True)
    lines = initialise(root, repo=None, agent=None)
    workspace = Workspace.find(root / "inbox")
    assert workspace == Workspace.at(root)
    assert inspect_repository(workspace.repo, workspace).base_branch == "main"
    assert tomllib.loads(workspace.config_file.read_text())["integration"] == {
        "base_branch": "main"
    }
    assert load_config(workspace.config_file).agent.command_line == BUILTIN
    assert workspace.prompt_template.read_text() == default_template()
    assert not workspace.database.exists()
    assert f"workspace: {root}" in lines
    assert f"repository: {root}/repo (made, with a first commit); base branch: main" in lines
    assert lines[-1].endswith(f"drop a file into {root}/inbox")


def test_a_second_init_changes_nothing_and_says_what_was_kept(tmp_path: Path) -> None:
    initialise(tmp_path / "w", repo=None, agent="pi")
    (tmp_path / "w" / "prompt.md").write_text("mine")
    before = contents(tmp_path)
    for agent in (None, "pi"):
        lines = initialise(tmp_path / "w", repo=None, agent=agent)
        assert "config.toml: kept" in lines
        assert "prompt.md: kept" in lines
    assert contents(tmp_path) == before


def test_an_existing_repository_is_taken_as_it_is(tmp_path: Path) -> None:
    repo = owned(tmp_path / "mine", "trunk")
    (repo / "dirty").write_text("x")
    before = contents(repo)
    lines = initialise(tmp_path / "w", repo=repo, agent=None)
    config = load_config(tmp_path / "w" / "config.toml")
    assert (config.repo.path, config.integration.base_branch) == (str(repo), "trunk")
    assert f"repository: {repo} (kept as it is); base branch: trunk" in lines
    assert contents(repo) == before
    assert not (tmp_path / "w" / "repo").exists()


def test_a_relative_repository_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = owned(tmp_path / "mine", "main")
    monkeypatch.chdir(tmp_path)
    initialise(Path("w"), repo=Path("mine"), agent=None)
    assert load_config(tmp_path / "w" / "config.toml").repo.path == str(repo)


def test_the_base_branch_is_kept_whatever_is_checked_out_later(tmp_path: Path) -> None:
    repo = owned(tmp_path / "mine", "trunk")
    initialise(tmp_path / "w", repo=repo, agent=None)
    subprocess.run(["git", "checkout", "-q", "-b", "other"], cwd=repo, check=True)
    assert "base branch: trunk" in "".join(initialise(tmp_path / "w", repo=repo, agent=None))


@pytest.mark.parametrize("name", AGENTS)
def test_every_known_agent_gives_a_valid_configuration(tmp_path: Path, name: str) -> None:
    initialise(tmp_path / "w", repo=None, agent=name)
    agent = load_config(tmp_path / "w" / "config.toml").agent
    assert agent.preset == ("" if name == "builtin" else name)


def test_an_unknown_agent_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'claud': did you mean 'claude'\? known: builtin, pi"):
        initialise(tmp_path / "w", repo=None, agent="claud")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).touch()
    with pytest.raises(WorkspaceError, match=r"it holds 'a', 'b', 'c', \.\.\.\); name a new"):
        initialise(tmp_path, repo=None, agent=None)
    with pytest.raises(WorkspaceError, match="Not a directory"):
        initialise(tmp_path / "a", repo=None, agent=None)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(("key", "agent"), [(r"\[agent\]", "claude"), (r"\[repo\]", None)])
def test_a_configuration_that_says_otherwise_is_kept_and_told(
    tmp_path: Path, key: str, agent: str | None
) -> None:
    initialise(tmp_path / "w", repo=None, agent="pi")
    repo = None if agent else owned(tmp_path / "mine", "main")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=f"is kept: change {key}"):
        initialise(tmp_path / "w", repo=repo, agent=agent)
    assert contents(tmp_path) == before


def test_a_broken_configuration_is_told_and_kept(tmp_path: Path) -> None:
    initialise(tmp_path / "w", repo=None, agent=None)
    (tmp_path / "w" / "config.toml").write_text("[agnet]\n")
    with pytest.raises(ConfigError, match="did you mean 'agent'"):
        initialise(tmp_path / "w", repo=None, agent=None)
    assert (tmp_path / "w" / "config.toml").read_text() == "[agnet]\n"


def test_what_is_missing_in_a_workspace_is_made_again(tmp_path: Path) -> None:
    initialise(tmp_path / "w", repo=None, agent=None)
    (tmp_path / "w" / "inbox").rmdir()
    (tmp_path / "w" / "prompt.md").unlink()
    assert "prompt.md: made" in initialise(tmp_path / "w", repo=None, agent=None)
    assert (tmp_path / "w" / "inbox").is_dir()


@pytest.mark.parametrize("reason", ["repository", "name", "prompt", "config"])
def test_a_failure_never_blocks_a_second_try(tmp_path: Path, reason: str) -> None:
    root = tmp_path / "w"
    repo: Path | None = None
    # A folder where a half-written file would go makes that write fail.
    obstacle = {"prompt": root / ".prompt.md.tmp", "config": root / ".config.toml.tmp"}.get(reason)
    if reason == "repository":
        repo = tmp_path / "none"
    elif reason == "name":
        repo = owned(Path(f"{tmp_path}/\udcff"), "main")
    if obstacle:
        (root / ".alluvium").mkdir(parents=True)
        obstacle.mkdir()
    with pytest.raises(AlluviumError):
        initialise(root, repo=repo, agent=None)
    if obstacle:
        obstacle.rmdir()
    initialise(root, repo=None, agent=None)
    assert load_config(root / "config.toml").integration.base_branch == "main"
    assert inspect_repository(root / "repo").base_branch == "main"
