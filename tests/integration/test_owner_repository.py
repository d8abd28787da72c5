import os
import subprocess
from pathlib import Path

import pytest

from alluvium_like.errors import RepositoryError
from alluvium_like.gitrepo.owner import (
    OwnerRepository,
    create_repository,
    git_version,
    inspect_repository,
)
from alluvium_like.workspace import Workspace


def run(folder: Path, *args: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {
        f"GIT_{role}_{what}": "a@b"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", *args], cwd=folder, env=clean | identity, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def made(path: Path, branch: str = "trunk") -> Path:
    path.mkdir(parents=True)
    run(path, "init", "-q", "-b", branch)
    run(path, "commit", "-q", "--allow-empty", "-m", "first")
    return path


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_new_repository_has_one_commit_on_main_by_the_given_author(tmp_path: Path) -> None:
    create_repository(tmp_path / "new" / "repo", "Ann", "ann@example.org")
    repo = tmp_path / "new" / "repo"
    assert run(repo, "log", "--format=%an %ae %cn", "--all") == "Ann ann@example.org Ann"
    assert run(repo, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert run(repo, "ls-files") == "AGENTS.md"
    assert run(repo, "status", "--porcelain") == ""
    assert [entry.name for entry in repo.parent.iterdir()] == ["repo"]


def test_hooks_and_signing_of_the_caller_play_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[core]\nhooksPath={hooks}\n[commit]\ngpgSign=true\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    create_repository(tmp_path / "repo", "Ann", "ann@example.org")
    assert (tmp_path / "repo" / "AGENTS.md").is_file()


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "mine").write_text("x")
    with pytest.raises(RepositoryError, match="cannot be made"):
        create_repository(tmp_path / "repo", "Ann", "ann@example.org")
    assert [path.name for path in tmp_path.rglob("*")] == ["repo", "mine"]


def test_what_git_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="cannot be made"):
        create_repository(tmp_path / "repo", "<>", "ann@example.org")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_repository_is_described_and_left_alone(tmp_path: Path) -> None:
    path = made(tmp_path / "r")
    (path / "dirty").write_text("x")
    before = everything(path)
    assert inspect_repository(path) == OwnerRepository(
        path, path / ".git", False, "trunk", run(path, "rev-parse", "HEAD"), False
    )
    assert everything(path) == before


def test_a_bare_repository_serves(tmp_path: Path) -> None:
    run(tmp_path, "clone", "-q", "--bare", str(made(tmp_path / "r")), "bare.git")
    found = inspect_repository(tmp_path / "bare.git")
    assert (found.path, found.git_dir, found.bare) == (
        tmp_path / "bare.git",
        tmp_path / "bare.git",
        True,
    )
    assert found.base_branch == "trunk"


def test_a_linked_worktree_serves(tmp_path: Path) -> None:
    main = made(tmp_path / "r")
    run(main, "worktree", "add", "-q", "-b", "side", "../linked")
    found = inspect_repository(tmp_path / "linked")
    assert (found.path, found.bare, found.base_branch) == (tmp_path / "linked", False, "side")
    assert found.git_dir == main / ".git" / "worktrees" / "linked"


def test_a_linked_worktree_of_a_bare_repository_is_not_bare(tmp_path: Path) -> None:
    run(tmp_path, "clone", "-q", "--bare", str(made(tmp_path / "r")), "bare.git")
    run(tmp_path / "bare.git", "worktree", "add", "-q", "-b", "side", "../linked")
    found = inspect_repository(tmp_path / "linked")
    assert (found.path, found.bare, found.base_branch) == (tmp_path / "linked", False, "side")


def test_a_submodule_and_its_git_dir_are_the_same_repository(tmp_path: Path) -> None:
    made(tmp_path / "inner")
    outer = made(tmp_path / "outer")
    run(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../inner", "sub")
    found = inspect_repository(outer / "sub")
    assert (found.path, found.git_dir) == (outer / "sub", outer / ".git" / "modules" / "sub")
    assert inspect_repository(outer / ".git" / "modules" / "sub") == found


def test_the_git_dir_of_a_repository_stands_for_it(tmp_path: Path) -> None:
    path = made(tmp_path / "r")
    assert inspect_repository(path / ".git") == inspect_repository(path)


def test_sha256_serves(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "-b", "main", "--object-format=sha256", "r")
    run(tmp_path / "r", "commit", "-q", "--allow-empty", "-m", "first")
    assert len(inspect_repository(tmp_path / "r").head_commit) == 64


def test_a_hostile_name_is_only_a_name(tmp_path: Path) -> None:
    path = made(tmp_path / "$HOME ~ -x\n")
    assert inspect_repository(path).path == path


def test_a_named_base_branch_counts_instead_of_what_is_checked_out(tmp_path: Path) -> None:
    path = made(tmp_path / "r")
    run(path, "checkout", "-q", "--detach")
    found = inspect_repository(path, base_branch="trunk")
    assert (found.base_branch, found.head_commit) == ("trunk", run(path, "rev-parse", "HEAD"))


def test_variables_of_the_caller_play_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = made(tmp_path / "r"), made(tmp_path / "other", "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no" / "index"))
    before = dict(os.environ)
    assert inspect_repository(path).base_branch == "trunk"
    create_repository(tmp_path / "new", "Ann", "ann@example.org")
    assert inspect_repository(tmp_path / "new").base_branch == "main"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("setup", "told"),
    [
        ([], "is not there, or no folder; set [repo].path to a Git repository"),
        (["mkdir r"], "is not the top of a Git repository"),
        (["git init -q -b main r"], "has no commits yet; make a first one"),
        (["git init -q --bare r"], "has no commits yet; make a first one"),
        (["git init -q r", "rm r/.git/HEAD"], "is not the top of a Git repository"),
        (["mkdir r", "echo junk > r/.git"], "is not the top of a Git repository"),
        (["touch r"], "is not there, or no folder"),
    ],
)
def test_what_cannot_serve_is_told_in_one_line(tmp_path: Path, setup: list[str], told: str) -> None:
    for line in setup:
        subprocess.run(line, shell=True, cwd=tmp_path, check=True)
    with pytest.raises(RepositoryError) as caught:
        inspect_repository(tmp_path / "r")
    assert told in str(caught.value)
    assert str(tmp_path / "r") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_inside_a_repository_is_not_taken_for_it(tmp_path: Path) -> None:
    (made(tmp_path / "r") / "sub").mkdir()
    with pytest.raises(RepositoryError, match="is not the top of a Git repository"):
        inspect_repository(tmp_path / "r" / "sub")


def test_a_detached_head_asks_for_a_branch(tmp_path: Path) -> None:
    path = made(tmp_path / "r")
    run(path, "checkout", "-q", "--detach")
    with pytest.raises(RepositoryError, match=r"detached.*\[integration\]\.base_branch"):
        inspect_repository(path)


def test_a_missing_base_branch_is_told_with_those_there(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"no branch 'man' with a commit; .*there: trunk"):
        inspect_repository(made(tmp_path / "r"), base_branch="man")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_repository_of_another_user_is_refused_as_git_will_refuse_it(tmp_path: Path) -> None:
    path = made(tmp_path / "r")
    for entry in (path, path / ".git"):
        os.chown(entry, 12345, 12345)
    with pytest.raises(RepositoryError, match="belongs to another user"):
        inspect_repository(path)


@pytest.mark.parametrize("folder", ["inbox", "tasks/x/input", "worktrees/x", ".alluvium/slots"])
def test_the_folders_of_the_daemon_hold_no_repository_of_the_owner(
    tmp_path: Path, folder: str
) -> None:
    workspace = Workspace.at(tmp_path)
    path = made(tmp_path / folder / "r")
    with pytest.raises(RepositoryError, match=f"lies in {folder.split('/')[0]}/ of the workspace"):
        inspect_repository(path, workspace)
    assert inspect_repository(path)


def test_the_folder_repo_of_the_workspace_is_the_owners(tmp_path: Path) -> None:
    assert inspect_repository(made(tmp_path / "repo"), Workspace.at(tmp_path))


def test_git_missing_old_or_broken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_version().split(".")[0] == "2"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RepositoryError, match=r"git is not on PATH: install git 2\.38"):
        git_version()
    for body, told in (
        ("echo git version 2.37.9", "git 2.37.9 is too old"),
        ("exit 3", "cannot be run"),
    ):
        (tmp_path / "git").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "git").chmod(0o755)
        with pytest.raises(RepositoryError, match=told):
            inspect_repository(tmp_path)
        with pytest.raises(RepositoryError, match=told):
            create_repository(tmp_path / "r", "a", "b")
