"""The owner's repository, looked at or made for a person: by init and doctor only.

An existing repository is never changed. Each look opens it anew and closes it. Git is asked in the
surroundings in which the daemon will ask it, without the caller's GIT_* variables and with the
repository's own configuration alone: what is found well here is well there too. The functions
block and change the environment of the process for a moment: one at a time.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alluvium_like.errors import RepositoryError
from alluvium_like.failpoint import step
from alluvium_like.workspace import Workspace

NEW_BRANCH: Final = "main"
_OLDEST: Final = (2, 38)  # the first whose merge-tree can write a tree
_DEADLINE_SECONDS: Final = 60
_SURROUNDINGS: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_AGENTS_MD: Final = """\
# Conventions for agents

- One task, one purpose: change what the task asks for and nothing beside it.
- Look at what is here before you write; follow its structure, its names and its style.
- Keep the tests passing, and add a test for what you change.
- Commit in small steps. The first line of a message says what changed, the rest says why.
- Never commit secrets, what a build makes, or what an editor leaves behind.
- Ask a person where the decision is not yours to make.
"""


@dataclass(frozen=True, slots=True)
class OwnerRepository:
    """What was found: `path` is its top folder, or the repository itself where it is bare.

    A `partial` clone lacks objects of its history; its remote is asked when git needs them.
    """

    path: Path
    git_dir: Path
    bare: bool
    base_branch: str
    head_commit: str
    partial: bool


def git_version() -> str:
    """Return the version of the installed git. Raises RepositoryError when it cannot serve."""
    if shutil.which("git") is None:
        raise RepositoryError(f"git is not on PATH: install git {_dotted(_OLDEST)} or newer")
    import git  # takes a quarter of a second, and fails where there is no git

    with _surroundings():
        try:
            version = git.Git().version_info
        except git.GitError as error:
            raise RepositoryError("git cannot be run: 'git version' failed") from error
    if version < _OLDEST:
        raise RepositoryError(
            f"git {_dotted(version)} is too old: install git {_dotted(_OLDEST)} or newer"
        )
    return _dotted(version)


def create_repository(path: Path, author_name: str, author_email: str) -> None:
    """Make a repository with a first commit on main; `path` must not exist or be an empty folder.

    It appears there whole or not at all. Raises RepositoryError.
    """
    git_version()
    import git

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-repo-", dir=path.parent) as folder:
            made = Path(folder) / "repo"
            with _surroundings():
                _make(made, author_name, author_email)
            with step("init.repository"):
                made.rename(path)  # refuses a folder that is not empty
    except OSError as error:
        raise RepositoryError(f"{path}: cannot be made: {error.strerror}") from error
    except git.GitCommandError as error:
        raise RepositoryError(f"{path}: cannot be made: {_last_line(str(error.stderr))}") from error


def inspect_repository(
    path: Path, workspace: Workspace | None = None, base_branch: str = ""
) -> OwnerRepository:
    """Look at an existing repository; `base_branch` empty means the branch that HEAD names.

    Raises RepositoryError, with one line, when the daemon could not work with it.
    """
    git_version()
    path = path.resolve()
    if workspace is not None:
        _refuse_own_folders(path, workspace)
    with _surroundings():
        top = _open(path)
        git_dir = _require(top, "rev-parse", "--absolute-git-dir")
        bare = _require(top, "rev-parse", "--is-bare-repository") == "true"
        branch = base_branch or _head_branch(top)
        promised = _ask(top, "config", "--get-regexp", r"^remote\..*\.promisor$")[1]
        return OwnerRepository(top, Path(git_dir), bare, branch, _tip(top, branch), bool(promised))


def _make(path: Path, name: str, email: str) -> None:
    import git

    with git.Repo.init(path, initial_branch=NEW_BRANCH) as repo:
        (path / "AGENTS.md").write_text(_AGENTS_MD, encoding="utf-8")
        repo.git.update_environment(
            GIT_AUTHOR_NAME=name,
            GIT_AUTHOR_EMAIL=email,
            GIT_COMMITTER_NAME=name,
            GIT_COMMITTER_EMAIL=email,
        )
        repo.git.add("AGENTS.md", kill_after_timeout=_DEADLINE_SECONDS)
        repo.git.commit(
            "-m", "Start with conventions for agents", kill_after_timeout=_DEADLINE_SECONDS
        )


def _refuse_own_folders(path: Path, workspace: Workspace) -> None:
    own = (
        workspace.inbox,
        workspace.tasks,
        workspace.worktrees,
        workspace.quarantine,
        workspace.logs,
        workspace.state,
    )
    for folder in own:
        if path.is_relative_to(folder):
            raise RepositoryError(
                f"{path}: lies in {folder.name}/ of the workspace, which is the daemon's; "
                "the repository must be elsewhere"
            )


def _open(path: Path) -> Path:
    """Return the top folder of the repository at `path` itself, not of one around it."""
    import git

    if not path.is_dir():
        raise RepositoryError(
            f"{path}: is not there, or no folder; set [repo].path to a Git repository"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise RepositoryError(f"{path}: cannot be read by this user")
    try:
        with git.Repo(path, search_parent_directories=False, expand_vars=False) as repo:
            top = Path(repo.git_dir, repo.working_tree_dir or ".").resolve()
    except git.InvalidGitRepositoryError as error:
        raise RepositoryError(
            f"{path}: is not the top of a Git repository; 'git init' makes one there"
        ) from error
    except OSError as error:
        raise RepositoryError(f"{path}: cannot be read: {error.strerror}") from error
    if not top.is_dir():
        raise RepositoryError(f"{path}: its work tree {top} is not there")
    return top


def _head_branch(top: Path) -> str:
    code, name, _ = _ask(top, "symbolic-ref", "-q", "HEAD")
    if code or not name.startswith("refs/heads/"):
        raise RepositoryError(
            f"{top}: has no branch checked out (HEAD is detached); check one out, "
            "or name one in [integration].base_branch"
        )
    return name.removeprefix("refs/heads/")


def _tip(top: Path, branch: str) -> str:
    code, commit, _ = _ask(top, "rev-parse", "-q", "--verify", f"refs/heads/{branch}^{{commit}}")
    if code == 0:
        return commit
    names = _require(top, "for-each-ref", "--count=5", "--format=%(refname:short)", "refs/heads")
    if not names:
        raise RepositoryError(f"{top}: has no commits yet; make a first one, an empty one will do")
    raise RepositoryError(
        f"{top}: has no branch '{branch}' with a commit; "
        f"branches there: {', '.join(names.splitlines())}"
    )


def _require(top: Path, *args: str) -> str:
    code, out, err = _ask(top, *args)
    if "ownership" in err:
        raise RepositoryError(
            f"{top}: belongs to another user, and git refuses it; run the daemon as its owner, "
            "or give it to the user who runs the daemon"
        )
    if code:
        raise RepositoryError(f"{top}: git {args[0]} failed: {_last_line(err)}")
    return out


def _ask(top: Path, *args: str) -> tuple[int, str, str]:
    import git

    code, out, err = git.Git(top).execute(
        ["git", *args],
        with_extended_output=True,
        with_exceptions=False,
        kill_after_timeout=_DEADLINE_SECONDS,
    )
    return int(code), str(out), str(err)


@contextmanager
def _surroundings() -> Iterator[None]:
    """Hide the caller's GIT_* from GitPython, which has no other way to leave a variable out."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("GIT_")}
    os.environ.update(_SURROUNDINGS)
    try:
        yield
    finally:
        for name in _SURROUNDINGS:
            os.environ.pop(name, None)
        os.environ.update(hidden)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1].strip()
