"""Finding the owner's repository at the daemon's start, without ever searching upwards."""

from pathlib import Path

from alluvium_like.errors import GitFailed, RepositoryError
from alluvium_like.gitrepo.landing import Owner
from alluvium_like.gitrepo.runner import Git, first_line


async def locate_owner(git: Git, path: Path, base_branch: str) -> Owner:
    """Return the repository at `path` (bare or not); an empty base is the branch that HEAD names.

    Raises RepositoryError.
    """
    entry = path / ".git" if (path / ".git").exists() else path
    if not (entry.exists() and (entry.is_file() or (entry / "HEAD").exists())):
        raise RepositoryError(
            f"{path}: no Git repository there; make one, or set [repo].path in config.toml"
        )
    try:
        common = await git.run(
            "rev-parse", "--path-format=absolute", "--git-common-dir", git_dir=entry, cwd=path
        )
        if not base_branch:
            head = await git.run("symbolic-ref", "--short", "HEAD", git_dir=entry, cwd=path)
            base_branch = first_line(head)
    except GitFailed as error:
        raise RepositoryError(
            f"{path}: cannot be used: {error.stderr.strip().splitlines()[-1]}; "
            "'alluvium-like doctor' says more"
        ) from error
    return Owner(Path(first_line(common)), base_branch, path)
