"""Objects and refs of one repository of ours, asked of and written by gits that stay alive.

Only what is plain goes this way; whatever is odd is left to the git command that is made for it,
so both ways give the same answers and the very same commits.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.runner import Git, Identity, first_line, null_split
from alluvium_like.gitrepo.talk import Pipe
from alluvium_like.gitrepo.workshop import is_object_id

_CAT_FILE = ("cat-file", "--batch-command")
_WRITE_COMMIT = ("hash-object", "-t", "commit", "-w", "--no-filters", "--stdin-paths")
_UPDATE_REF = ("update-ref", "--stdin")
_PLAIN_DATE = re.compile(r"@((?:0|[1-9][0-9]{0,9}) (?:\+[0-9]{2}|-(?!0000)[0-9]{2})[0-5][0-9])")
_CRUD = "".join(map(chr, range(33))) + ".,:;<>\"\\'"
"""What git takes away from both ends of a name."""
_PART = "commit.alluvium"


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an object before it is read."""

    id: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Object:
    """One object as it is stored."""

    id: str
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit's header points at."""

    tree: str
    parents: tuple[str, ...]


async def read_objects(git: Git, store: Path, names: Sequence[str]) -> list[Object | None]:
    """Read objects by full id or any name without a line break; None for what is not there."""

    async def dialogue(pipe: Pipe) -> list[Object | None]:
        return [await _content(pipe, name) for name in names]

    return await git.ask(_CAT_FILE, dialogue, store)


async def read_header(git: Git, store: Path, name: str) -> Header | None:
    """Look an object up without reading it; None where it is not there."""
    return await git.ask(_CAT_FILE, lambda pipe: _header(pipe, "info", name), store)


async def _header(pipe: Pipe, command: str, name: str) -> Header | None:
    await pipe.send(f"{command} {name}\n".encode(errors="surrogateescape"))
    *words, last = (await pipe.line()).decode(errors="surrogateescape").rsplit(" ", 2)
    if len(words) < 2 or not last.isdigit():
        return None  # "missing" or "ambiguous"
    return Header(words[0], words[1], int(last))


async def _content(pipe: Pipe, name: str) -> Object | None:
    header = await _header(pipe, "contents", name)
    if header is None:
        return None
    data = await pipe.exactly(header.size)
    await pipe.exactly(1)
    return Object(header.id, header.kind, data)


async def read_commit(git: Git, store: Path, commit: str) -> bytes:
    """Return a commit as it is stored. Raises GitFailed."""
    (found,) = await read_objects(git, store, [commit])
    if found is None or found.kind != "commit":
        raise GitFailed(list(_CAT_FILE), 1, f"{commit} is no commit here")
    return found.data


def parse_commit(data: bytes) -> Commit:
    """Return what the header of a stored commit points at."""
    tree, *lines = data.partition(b"\n\n")[0].split(b"\n")
    parents = []
    for line in lines:
        word, _, name = line.partition(b" ")
        if word != b"parent":
            break
        parents.append(name.decode("ascii"))
    return Commit(tree.removeprefix(b"tree ").decode("ascii"), tuple(parents))


async def trees_of(git: Git, store: Path, commits: Sequence[str]) -> list[str]:
    """Return the trees of commits. Raises GitFailed."""
    found = await read_objects(git, store, commits)
    trees = [parse_commit(o.data).tree for o in found if o is not None and o.kind == "commit"]
    if len(trees) == len(commits):
        return trees
    done = await git.run("rev-parse", *(f"{name}^{{tree}}" for name in commits), git_dir=store)
    return done.stdout.decode().split()


async def known_kinds(git: Git, store: Path, ids: Sequence[str]) -> dict[str, str]:
    """Return the kind of those objects that are there."""

    async def dialogue(pipe: Pipe) -> dict[str, str]:
        found = {name: await _header(pipe, "info", name) for name in ids}
        return {name: header.kind for name, header in found.items() if header is not None}

    return await git.ask(_CAT_FILE, dialogue, store)


async def update_refs(git: Git, store: Path, lines: Sequence[str], why: str) -> None:
    """Change refs, all or none, as the step `refs.<why>`. Raises GitFailed.

    A line is `update <ref> <new>` or `delete <ref>`, with the old value behind it or not.
    """
    if not lines:
        return

    async def dialogue(pipe: Pipe) -> None:
        await pipe.send("\n".join(("start", *lines, "commit", "")).encode())
        for expected in (b"start: ok", b"commit: ok"):
            answer = await pipe.line()
            if answer != expected:
                raise GitFailed(list(_UPDATE_REF), 1, answer.decode(errors="replace"))

    words = [line.split(" ") for line in lines if " " in line]  # git refuses the others
    values = {ref: rest[0] if verb == "update" else "" for verb, ref, *rest in words}
    with step(f"refs.{why}"), git.refs.writing(store, values):
        await git.ask(_UPDATE_REF, dialogue, store)


async def diff_trees(git: Git, store: Path, options: Sequence[str], old: str, new: str) -> bytes:
    """Return what `diff-tree` prints for two trees by their ids. Raises GitFailed.

    A line that is no object id is echoed: a random one marks the end. The pair is printed first,
    unless one of them cannot be read.
    """
    mark, pair = secrets.token_hex(8).encode("ascii"), f"{old} {new}\n".encode("ascii")

    async def dialogue(pipe: Pipe) -> bytes:
        await pipe.send(pair + mark + b"\n")
        return await pipe.until(mark + b"\n")

    found = await git.ask(("diff-tree", "--stdin", *options), dialogue, store)
    if not found.startswith(pair):
        raise GitFailed(["diff-tree", old, new], 1, "a tree cannot be read")
    return found.removeprefix(pair)


async def entries_at(git: Git, store: Path, tree: str, paths: Sequence[str]) -> dict[str, str]:
    """Return mode, kind and id of what a tree has at some paths, and below. Raises GitFailed."""
    if not paths:
        return {}
    done = await git.run(
        "--literal-pathspecs", "ls-tree", "-r", "-z", tree, "--", *paths, git_dir=store
    )
    rows = (row.split("\t", 1) for row in null_split(done.stdout))
    return {path: facts for facts, path in rows}


async def write_commit(
    git: Git,
    store: Path,
    tree: str,
    parents: Sequence[str],
    message: str,
    author: Identity,
    committer: Identity,
) -> str:
    """Write a commit, byte for byte as `commit-tree` does. Raises GitFailed."""
    data = plain_commit(tree, parents, message, author, committer)
    if data is not None:
        kinds = await known_kinds(git, store, (tree, *parents))
        if [kinds.get(name) for name in (tree, *parents)] == ["tree", *["commit"] * len(parents)]:
            return await _hash_commit(git, store, data)
    done = await git.run(
        "commit-tree",
        tree,
        *(word for parent in parents for word in ("-p", parent)),
        "-F",
        "-",
        git_dir=store,
        author=author,
        committer=committer,
        stdin=message.encode(errors="replace"),
    )
    return first_line(done)


def plain_commit(
    tree: str, parents: Sequence[str], message: str, author: Identity, committer: Identity
) -> bytes | None:
    """Return the commit object as `commit-tree` makes it, None where git would mend something."""
    people = [_plain_person(who) for who in (author, committer)]
    if None in people or len(set(parents)) < len(parents):
        return None
    if not all(map(is_object_id, (tree, *parents))) or not _is_plain(message.replace("\n", "")):
        return None
    lines = (
        f"tree {tree}",
        *(f"parent {parent}" for parent in parents),
        f"author {people[0]}",
        f"committer {people[1]}",
        "",
        message,
    )
    return "\n".join(lines).encode()


def _plain_person(who: Identity) -> str | None:
    date = _PLAIN_DATE.fullmatch(who.date)
    words = (who.name, who.email)
    if date is None or not who.name or any(word != word.strip(_CRUD) for word in words):
        return None
    if not all(map(_is_plain, words)) or any(c in word for word in words for c in "<>"):
        return None
    return f"{who.name} <{who.email}> {date[1]}"


def _is_plain(text: str) -> bool:
    """Tell whether git takes a text for UTF-8 as it is; it knows tabs and what can be seen."""
    return all(c.isprintable() or c == "\t" for c in text)


async def _hash_commit(git: Git, store: Path, data: bytes) -> str:
    """Store a commit through a file: the process takes paths, one a line."""
    part = store / _PART

    async def dialogue(pipe: Pipe) -> str:
        await to_thread.run_sync(part.write_bytes, data)
        await pipe.send(f"{_PART}\n".encode("ascii"))
        return (await pipe.line()).decode("ascii")

    with step("commit.write"):
        return await git.ask(_WRITE_COMMIT, dialogue, store)
