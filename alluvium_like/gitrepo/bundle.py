"""A bare repository of ours as one file, and back: a bundle of its refs and of commits by name.

Commits that no ref leads to any more are taken along where rows name them. Objects are checked by
their hashes when they come in. Where a history was cut off (a shallow clone), git's note of where
goes beside the bundle.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from alluvium_like.gitrepo.runner import Git, full_ref
from alluvium_like.gitrepo.workshop import is_object_id


async def present_commits(git: Git, git_dir: Path, ids: Collection[str]) -> set[str]:
    """Return those ids that name a commit there; one process for all of them."""
    names = sorted(filter(is_object_id, ids))
    done = await git.run(
        "cat-file",
        "--batch-check=%(objectname) %(objecttype)",
        git_dir=git_dir,
        stdin="".join(f"{name}\n" for name in names).encode("ascii"),
    )
    lines = (line.split(" ") for line in done.stdout.decode(errors="replace").splitlines())
    return {words[0] for words in lines if words[1:] == ["commit"]}


async def write_bundle(git: Git, git_dir: Path, commits: Collection[str], target: Path) -> None:
    """Write all refs, those commits, and what they stand on into a new file. Raises GitFailed."""
    await git.run(
        "bundle",
        "create",
        "--quiet",
        str(target),
        "--all",
        "--stdin",
        git_dir=git_dir,
        stdin="".join(f"{commit}\n" for commit in sorted(commits)).encode("ascii"),
    )


async def make_from_bundle(
    git: Git, git_dir: Path, bundle: Path, base_branch: str, *, bare: bool
) -> dict[str, str]:
    """Make a new repository with a bundle's objects; return the refs it held, none of them set.

    Raises GitFailed.
    """
    heads = await git.run("bundle", "list-heads", str(bundle), cwd=bundle.parent)
    pairs = [
        line.split(" ", 1) for line in heads.stdout.decode(errors="surrogateescape").split("\n")
    ]
    refs = {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and is_object_id(pair[0])}
    sizes = {len(commit) for commit in refs.values()}
    place = git_dir if bare else git_dir.parent
    await git.run(
        "init",
        "--quiet",
        "--template=",
        f"--object-format={'sha256' if sizes == {64} else 'sha1'}",
        f"--initial-branch={base_branch}",
        *(("--bare",) if bare else ()),
        "--",
        str(place),
    )
    await git.run("bundle", "unbundle", str(bundle), git_dir=git_dir)
    return {name: commit for name, commit in refs.items() if name.startswith("refs/")}


async def set_refs(git: Git, git_dir: Path, refs: Mapping[str, str]) -> None:
    """Set refs in a new repository, all or none. Raises GitFailed."""
    text = "".join(f"update {name}\0{commit}\0\0" for name, commit in refs.items())
    data = text.encode(errors="surrogateescape")
    await git.run("update-ref", "--stdin", "-z", git_dir=git_dir, stdin=data)


async def read_refs(git: Git, git_dir: Path) -> dict[str, str]:
    """Return all refs of a repository. Raises GitFailed."""
    done = await git.run("for-each-ref", "--format=%(objectname) %(refname)", git_dir=git_dir)
    lines = done.stdout.decode(errors="surrogateescape").split("\n")
    return {name: commit for commit, _, name in (line.partition(" ") for line in lines) if name}


async def follow_branch(git: Git, git_dir: Path, source: Path, branch: str) -> None:
    """Move a branch to where `source` has it, where that is a fast-forward. Raises GitFailed."""
    await git.run(
        "fetch",
        "--quiet",
        "--no-write-fetch-head",
        "--no-tags",
        "--update-head-ok",
        str(source),
        f"{full_ref(branch)}:{full_ref(branch)}",
        git_dir=git_dir,
        accept=frozenset({0, 1}),  # 1: it is ahead, or went another way
    )


async def fill_work_tree(git: Git, work_tree: Path, branch: str) -> None:
    """Check a branch out in a new repository without files. Raises GitFailed."""
    git_dir = work_tree / ".git"
    await git.run(
        "reset", "--quiet", "--hard", full_ref(branch), git_dir=git_dir, work_tree=work_tree
    )
