"""The daemon's own bare repository: merges happen here, and nowhere else.

It holds the base as last seen in the owner's repository (refs/heads/<base>) and refs/alluvium/base,
which is ahead of it by what waits to land. Candidates and tasks' work are kept by refs, so that
nothing in use is ever pruned. No agent's git writes here.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from alluvium_like.errors import GitFailed, RepositoryError
from alluvium_like.execution.quick import Completed
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.harvest import task_ref
from alluvium_like.gitrepo.history import History
from alluvium_like.gitrepo.journal import ANY
from alluvium_like.gitrepo.merges import Conflict, Merged, merge_commits
from alluvium_like.gitrepo.objects import update_refs, write_commit
from alluvium_like.gitrepo.runner import Git, Identity, first_line, full_ref
from alluvium_like.gitrepo.tidy import tidy
from alluvium_like.gitrepo.touched import touched, touched_on_the_way
from alluvium_like.gitrepo.vetting import find_refused
from alluvium_like.gitrepo.workshop import Source, is_object_id, read_untrusted

_BASE_REF = "refs/alluvium/base"
_TAGS = "refs/tags/*"
_EMPTY_TREE = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}


class Integration:
    """integration.git for one base branch of one owner's repository."""

    def __init__(self, git: Git, path: Path, owner: Path, base_branch: str) -> None:
        self._git = git
        self._owner = owner
        self._lock = anyio.Lock()
        self._object_format = "sha1"
        self._tags: tuple[tuple[str, str], ...] = ()
        self._rewritten: dict[str, str] = {}
        self.path = path
        self.history = History(git, path)
        self.base_branch = base_branch
        self.seen = ""
        self.base = ""

    async def open(self) -> None:
        """Make it where it is missing, and learn what it holds.

        Raises RepositoryError when the owner's repository or its base branch is not there.
        """
        await self.owner_tip()
        if not (self.path / "HEAD").exists():
            await self._clone()
        done = await self._run("rev-parse", "--show-object-format")
        self._object_format = first_line(done)
        self.seen = await self._resolve(full_ref(self.base_branch)) or ""
        self.base = await self._resolve(_BASE_REF) or ""
        if not self.base:
            await self.set_base(self.seen)
        await self._read_tags()
        await self.refresh()

    async def close(self) -> None:
        """End the git processes that stay alive between questions."""
        await self._git.close(self.path)

    async def owner_tip(self) -> str:
        """Return the commit of the base branch in the owner's repository.

        A loose ref is one small file and needs no process. Raises RepositoryError.
        """
        loose = self._owner / "refs" / "heads" / self.base_branch
        commit = await anyio.to_thread.run_sync(read_untrusted, loose)
        if is_object_id(commit):
            return commit
        try:
            done = await self._git.run(
                "rev-parse",
                "--verify",
                "--quiet",
                f"{full_ref(self.base_branch)}^{{commit}}",
                git_dir=self._owner,
            )
        except GitFailed as error:
            raise RepositoryError(
                f"{self._owner}: the base branch '{self.base_branch}' is not there; create it, or "
                f"set [integration].base_branch in config.toml ({error.stderr.strip() or 'gone'})"
            ) from error
        return first_line(done)

    async def refresh(self) -> bool:
        """Take up what others did to the base; returns true when it moved.

        Our own base follows at once when nothing of ours is ahead; else the lane decides.
        """
        async with self._lock:
            tip = await self.owner_tip()
            if tip == self.seen:
                return False
            await self._read_tags()
            had, mirror = set(self._tags), full_ref(self.base_branch)
            was_even = self.base in (self.seen, "")
            with self._git.refs.writing(self.path, {mirror: ANY, _TAGS: ANY}) as came:
                await self._run(
                    "fetch",
                    "--quiet",
                    "--no-write-fetch-head",
                    str(self._owner),
                    f"+{mirror}:{mirror}",
                    f"+{_TAGS}:{_TAGS}",
                )
                self.seen = await self._resolve(mirror) or tip
                await self._read_tags()
                came.clear()
                came |= {mirror: self.seen, **dict(set(self._tags) - had)}
            if was_even:
                await self._move_base(self.seen)
            return True

    async def assert_refs(self) -> None:
        """Put right those of our refs that the daemon itself goes by, whatever they are now."""
        mirror = f"update {full_ref(self.base_branch)} {self.seen}"
        async with self._lock:
            await self._update_refs([mirror, f"update {_BASE_REF} {self.base}"], "assert")

    async def set_base(self, commit: str) -> None:
        """Move our own base: ahead to what was proven, or back to what the owner has."""
        async with self._lock:
            await self._move_base(commit)

    def source(self) -> Source:
        """Return what a new workshop borrows.

        Its base is what has landed: work started on what still waits to land would carry that
        along, even when it is withdrawn.
        """
        return Source(self.path, self._object_format, self.base_branch, self.seen, self._tags)

    async def merge(self, ours: str, theirs: str) -> Merged | Conflict:
        """Merge two commits without any work tree.

        Raises GitFailed, RepositoryError where they have no history in common. Nothing is to be
        merged in what was started on `ours`.
        """
        if is_object_id(theirs) and (await self.history.commit(theirs)).parents == (ours,):
            return Merged(await self.tree_of(theirs))
        return await merge_commits(self._git, self.path, ours, theirs)

    async def merge_work(self, ours: str, theirs: str, base: str) -> Merged | Conflict:
        """Merge a task's work that was started on the landed base `base`. Raises as `merge` does.

        Where the owner has rewritten history since, Git's own merge base would lie too far back and
        take for the task's what the owner took out: then the work is what differs from `base`.
        """
        if not base or base == self.seen or await self.still_landed(base):
            return await self.merge(ours, theirs)
        done = await self._run("merge-base", theirs, base)
        origin = await self._bare_commit(await self.tree_of(first_line(done)))
        return await self.merge(
            await self._bare_commit(await self.tree_of(ours), origin),
            await self._bare_commit(await self.tree_of(theirs), origin),
        )

    async def revert(self, commit: str, onto: str) -> Merged | Conflict:
        """Take what `commit` brought against its first parent out of `onto`. Raises GitFailed."""
        origin = await self._bare_commit(await self.tree_of(commit))
        parents = (await self.history.commit(commit)).parents
        before = await self.tree_of(parents[0]) if parents else _EMPTY_TREE[self._object_format]
        return await self.merge(
            await self._bare_commit(await self.tree_of(onto), origin),
            await self._bare_commit(before, origin),
        )

    async def touched(self, old_tree: str, new_tree: str, patterns: Sequence[str]) -> set[str]:
        """Return the paths that differ between two trees and match. Raises GitFailed."""
        return await touched(self._git, self.path, old_tree, new_tree, patterns)

    async def find_refused(self, old_tree: str, new_tree: str) -> str:
        """Return what git refuses of what `new_tree` has otherwise. Raises GitFailed."""
        return await find_refused(self._git, self.path, old_tree, new_tree)

    async def touched_on_the_way(
        self, tip: str, known: Sequence[str], patterns: Sequence[str]
    ) -> set[str]:
        """Return the matching paths that commits of `tip`, and none of `known`, have changed.

        Raises GitFailed.
        """
        return await touched_on_the_way(self._git, self.path, [tip], known, patterns)

    async def tidy(self) -> bool:
        """Pack what has gathered, where it is much; returns whether it was. Raises GitFailed."""
        return await tidy(self._git, self.path)

    async def still_landed(self, base: str) -> bool:
        """Tell whether a base that an attempt was given still is in the owner's history."""
        if self._rewritten.get(base) != self.seen:
            if await self.history.contains(base, self.seen):
                return True
            self._rewritten[base] = self.seen
        return False

    async def _bare_commit(self, tree: str, *parents: str) -> str:
        """Write a commit that stands for a tree in a merge; it never lands."""
        nobody = Identity("merge", "merge@localhost", "@0 +0000")
        return await write_commit(self._git, self.path, tree, parents, "merge", nobody, nobody)

    async def commit(
        self,
        tree: str,
        parents: Sequence[str],
        message: str,
        *,
        author: Identity,
        committer: Identity,
    ) -> str:
        """Write a commit; the same inputs give the same commit again."""
        return await write_commit(self._git, self.path, tree, parents, message, author, committer)

    async def tree_of(self, commit: str) -> str:
        """Return the tree of a commit. Raises GitFailed."""
        if not is_object_id(commit):
            return first_line(await self._run("rev-parse", f"{commit}^{{tree}}"))
        return (await self.history.commit(commit)).tree

    async def hold(self, candidates: Mapping[str, str], base: str) -> None:
        """Keep candidates (task id to commit) and our base on top of them, all or nothing."""
        lines = [f"update {_candidate_ref(task)} {c}" for task, c in candidates.items()]
        async with self._lock:
            await self._update_refs([*lines, f"update {_BASE_REF} {base}"], "hold")
            self.base = base

    async def landed(self, commit: str, task_ids: Sequence[str]) -> None:
        """Let the mirror follow a landing of ours and drop the refs of what is done.

        Ten thousand finished task refs were seen to slow a fetch from 11 to 294 ms.
        """
        refs = [ref for task in task_ids for ref in (_candidate_ref(task), task_ref(task))]
        mirror = f"update {full_ref(self.base_branch)} {commit}"
        async with self._lock:  # an attempt that starts now may be fetching the same ref
            await self._update_refs([mirror, *(f"delete {ref}" for ref in refs)], "landed")
            self.seen = commit

    async def keep(self, task_id: str, commit: str) -> None:
        """Keep a commit as the work of a task."""
        await self._update_refs([f"update {task_ref(task_id)} {commit}"], "keep")

    async def forget(self, task_id: str) -> None:
        """Drop the refs of a task that is done without a landing."""
        await self._update_refs(
            [f"delete {_candidate_ref(task_id)}", f"delete {task_ref(task_id)}"], "forget"
        )

    async def _move_base(self, commit: str) -> None:
        await self._update_refs([f"update {_BASE_REF} {commit}"], "base")
        self.base = commit

    async def _clone(self) -> None:
        part = self.path.with_suffix(".part")
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(part, ignore_errors=True))
        await self._git.run(
            "clone",
            "--quiet",
            "--bare",
            "--local",
            "--single-branch",
            f"--branch={self.base_branch}",
            "--",
            str(self._owner),
            str(part),
        )
        with step("clone.rename"):
            await anyio.to_thread.run_sync(part.rename, self.path)

    async def _read_tags(self) -> None:
        done = await self._run("for-each-ref", "--format=%(refname) %(objectname)", "refs/tags")
        lines = done.stdout.decode(errors="surrogateescape").split("\n")
        pairs = (line.rsplit(" ", 1) for line in lines if line)
        self._tags = tuple((name, commit) for name, commit in pairs)

    async def _resolve(self, ref: str) -> str | None:
        done = await self._git.run(
            "rev-parse", "--verify", "--quiet", ref, git_dir=self.path, accept=frozenset({0, 1})
        )
        return first_line(done) or None

    async def _update_refs(self, lines: Sequence[str], why: str) -> None:
        await update_refs(self._git, self.path, lines, why)

    async def _run(self, *args: str) -> Completed:
        return await self._git.run(*args, git_dir=self.path)


def _candidate_ref(task_id: str) -> str:
    return f"refs/alluvium/candidates/{task_id}"
