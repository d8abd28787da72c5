"""The short ways to git's answers give the same answers as git's own commands."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from anyio import to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.carry import carry
from alluvium_like.gitrepo.history import History
from alluvium_like.gitrepo.integration import Integration
from alluvium_like.gitrepo.merges import Conflict, Merged
from alluvium_like.gitrepo.objects import plain_commit, read_objects, trees_of, write_commit
from alluvium_like.gitrepo.runner import Git, Identity
from alluvium_like.gitrepo.talk import Pipe
from alluvium_like.gitrepo.workshop import Workshop, make_workshop

WHO = Identity("Ann Author", "ann@example.org", "@1700000000 +0130")
BASE_FILES = {
    "a.txt": "a\n",
    "b.txt": "b\n",
    "lib/deep/one": "one\n",
    "lib/deep/two": "two\n",
    "lib/other": "other\n",
    "Sub/Secret.KEY": "key\n",
    ".github/ci.yml": "ci\n",
    "x/.github/ci.yml": "ci\n",
}


def run(folder: Path, *args: str, stdin: bytes = b"") -> str:
    identity = ["-c", "user.name=Owner", "-c", "user.email=owner@example.org"]
    done = subprocess.run(
        ["git", *identity, *args], cwd=folder, input=stdin, capture_output=True, check=True
    )
    return done.stdout.decode(errors="surrogateescape").strip()


class Place:
    """The owner's repository and the daemon's, with one commit."""

    def __init__(self, root: Path, object_format: str) -> None:
        self.root, self.owner = root, root / "repo"
        self.owner.mkdir(parents=True)
        run(self.owner, "init", "-q", "-b", "main", f"--object-format={object_format}")
        self.first = self.commit(BASE_FILES)
        self.git = Git("test")
        self.made = Integration(self.git, root / "made.git", self.owner / ".git", "main")
        self.user = Identity("Agent", "agent@example.org")

    @property
    def store(self) -> Path:
        return self.made.path

    def commit(self, files: Mapping[str, str | None], message: str = "owner's") -> str:
        for name, text in files.items():
            path = self.owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        run(self.owner, "add", "-A")
        run(self.owner, "commit", "-q", "--allow-empty", "-m", message)
        return run(self.owner, "rev-parse", "HEAD")

    async def workshop(self, name: str = "w") -> Workshop:
        shop = Workshop(name, self.root / "shops" / f"{name}.git", self.root / "trees" / name)
        shop.git_dir.parent.mkdir(exist_ok=True)
        source = self.made.source()
        await make_workshop(
            self.git, shop, source, commit=source.base_commit, branch="task", user=self.user
        )
        return shop

    async def carry(self, shop: Workshop, tip: str) -> bool:
        return await carry(self.git, self.store, shop, tip, [self.made.seen])

    def is_whole(self, commit: str) -> bool:
        """Tell whether a commit and all it needs are in the daemon's repository."""
        done = subprocess.run(
            ["git", "rev-list", "--objects", "--quiet", commit], cwd=self.store, check=False,
            capture_output=True,
        )  # fmt: skip
        return done.returncode == 0


@pytest.fixture(params=["sha1", "sha256"])
async def place(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    place = Place(tmp_path, request.param)
    await place.made.open()
    yield place
    await place.made.close()


# -- commits ---------------------------------------------------------------------------------------

PLAIN = {
    "plain": (WHO, "Subject\n\nBody\n"),
    "no newline at the end": (WHO, "Subject"),
    "many newlines": (WHO, "\n\nSubject\n\n\n"),
    "no message": (WHO, ""),
    "tab": (WHO, "a\tb\n"),
    "not ASCII": (
        Identity("Ünïcode 日本", "ü@example.org", "@1700000000 -0330"),
        "Grüße 日本 🎉\n",
    ),
    "no mail": (Identity("Ann", "", "@1700000000 +0000"), "x"),
    "the epoch": (Identity("Ann", "a@b", "@0 +0000"), "x"),
    "dot inside": (Identity("Ann B. Author, Jr", "a@b", "@1 +1400"), "x"),
    "trailer": (WHO, "x\n\nTask-Id: 1\n"),
}
ODD = {
    "dots around": (Identity(".Ann B.", "a@b.", "@1 +0000"), "x"),
    "quotes": (Identity('"Ann"', "<a@b>", "@1 +0000"), "x"),
    "newline in the name": (Identity("Ann\nAuthor", "a@b", "@1 +0000"), "x"),
    "spaces": (Identity("  Ann  ", " a@b ", "@1 +0000"), "x"),
    "not UTF-8": (Identity("Ann \udce9", "a@b", "@1 +0000"), "caf\udce9"),
    "no character": (Identity("Ann", "a@b", "@1 +0000"), "x\ufffe\ufdd0y"),
    "carriage return": (WHO, "a\r\nb\r\n"),
    "control": (WHO, "a\x01\x7f\x1bb"),
    "minus zero": (Identity("Ann", "a@b", "@1 -0000"), "x"),
    "odd minutes": (Identity("Ann", "a@b", "@1 +0199"), "x"),
    "leading zeros": (Identity("Ann", "a@b", "@0001 +0000"), "x"),
    "another form of date": (Identity("Ann", "a@b", "2020-01-02T03:04:05+0100"), "x"),
    "far away": (Identity("Ann", "a@b", "@99999999999 +0000"), "x"),
}


@pytest.mark.parametrize("case", [*PLAIN, *ODD])
async def test_a_commit_is_the_one_that_commit_tree_writes(place: Place, case: str) -> None:
    who, message = {**PLAIN, **ODD}[case]
    committer = Identity("Daemon", "daemon@localhost", "@1700000001 +0000")
    (tree,) = await trees_of(place.git, place.store, [place.first])
    for parents in ([], [place.first]):
        done = await place.git.run(
            *("commit-tree", tree, *(w for p in parents for w in ("-p", p)), "-F", "-"),
            git_dir=place.store,
            author=who,
            committer=committer,
            stdin=message.encode(errors="replace"),
        )
        expected = done.stdout.decode().strip()
        loose = place.store / "objects" / expected[:2] / expected[2:]
        await to_thread.run_sync(loose.unlink)
        made = await write_commit(place.git, place.store, tree, parents, message, who, committer)
        assert made == expected
        assert await to_thread.run_sync(loose.exists)
        is_plain = plain_commit(tree, parents, message, who, committer) is not None
        assert is_plain == (case in PLAIN)


async def test_what_commit_tree_refuses_is_refused(place: Place) -> None:
    (tree,) = await trees_of(place.git, place.store, [place.first])
    refused: list[tuple[str, list[str], str, Identity]] = [
        ("1" * len(tree), [], "x", WHO),
        (place.first, [], "x", WHO),
        (tree, ["1" * len(tree)], "x", WHO),
        (tree, [tree], "x", WHO),
        (tree, [], "a\0b", WHO),
        (tree, [], "x", Identity("", "a@b", "@1 +0000")),
        (tree, [], "x", Identity("...", "a@b", "@1 +0000")),
        (tree, [], "x", Identity("Ann", "a@b", "nonsense")),
    ]
    for a_tree, parents, message, who in refused:
        with pytest.raises(GitFailed):
            await write_commit(place.git, place.store, a_tree, parents, message, who, WHO)
    twice = await write_commit(place.git, place.store, tree, [place.first] * 2, "x", WHO, WHO)
    assert (await place.made.history.commit(twice)).parents == (place.first,)


# -- history ---------------------------------------------------------------------------------------

HEADERS = {
    "plain": (b"author A B <a@b> 1700000000 +0100", b"Subject\n\nBody\n"),
    "subject of lines": (b"author A <a@b> 1 +0000", b"\n \t\n  One\nTwo  \n \nBody\n"),
    "no message": (b"author A <a@b> 1 +0000", b""),
    "carriage returns": (b"author A <a@b> 1 +0000", b"One\r\n\r\nTwo\r\n"),
    "no mail": (b"author A <> 1 +0000", b"x\n"),
    "no name": (b"author  <a@b> 1 +0000", b"x\n"),
    "no name nor space": (b"author <a@b> 1 +0000", b"x\n"),
    "not UTF-8": (b"author Caf\xe9 <a@b> 1 +0000", b"caf\xe9\n"),
    "encoding": (b"author Caf\xe9 <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\nencoding latin1",
                 b"caf\xe9\n"),
    "angles": (b"author A <a@b <c@d> 1 +0000", b"x\n"),
    "angle at the end": (b"author A <a@b>> 1 +0000", b"x\n"),
    "no date": (b"author A <a@b>", b"x\n"),
    "odd date": (b"author A <a@b> 0001 -0000", b"x\n"),
    "far away": (b"author A <a@b> 99999999999999999999 +0000", b"x\n"),
    "long zone": (b"author A <a@b> 1 +00000100", b"x\n"),
    "two authors": (b"author A <a@b> 1 +0000\nauthor C <c@d> 2 +0000", b"x\n"),
    "author of lines": (b"author A <a@b> 1 +0000\n B <b@c> 2 +0000", b"x\n"),
    "signature": (b"author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\ngpgsig one\n \n two",
                  b"x\n"),
    "NUL": (b"author A <a@b> 1 +0000", b"x\0y\n"),
    "spaces about": (b"author   A   < a@b > 1 +0000", b"x\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
async def test_the_author_is_the_one_that_log_tells(place: Place, case: str) -> None:
    header, message = HEADERS[case]
    tree = run(place.store, "rev-parse", f"{place.first}^{{tree}}")
    raw = f"tree {tree}\nparent {place.first}\n".encode() + header
    if b"\ncommitter" not in header:
        raw += b"\ncommitter A <a@b> 1 +0000"
    raw += b"\n\n" + message
    tip = run(place.store, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw)
    history = place.made.history
    expected = await history.logged_authors(place.first, tip)
    assert len(expected) == 1
    assert await history.authors(place.first, tip) == expected


async def test_authors_of_any_branch(place: Place) -> None:
    """Also where the base has moved, by a merge, or to the branch itself."""
    owner = place.owner
    run(owner, "checkout", "-q", "-b", "work")
    one = place.commit({"w": "1"}, "one")
    two = place.commit({"w": "2"}, "two")
    run(owner, "checkout", "-q", "main")
    moved = place.commit({"m": "1"}, "moved")
    run(owner, "merge", "-q", "--no-ff", "-m", "merged", "work")
    merged = run(owner, "rev-parse", "HEAD")
    later = place.commit({"m": "2"}, "later")
    run(owner, "checkout", "-q", "--orphan", "apart")
    apart = place.commit({"m": "3"}, "apart")
    run(place.store, "fetch", "-q", str(owner), "work", "main", "apart")
    history = place.made.history
    everything = [place.first, one, two, moved, merged, later, apart]
    for base in everything:
        for tip in everything:
            expected = await history.logged_authors(base, tip)
            assert await history.authors(base, tip) == expected, (base, tip)
            done = await place.git.run(
                *("merge-base", "--is-ancestor", base, tip),
                git_dir=place.store,
                accept=frozenset({0, 1}),
            )
            assert await history.contains(base, tip) == (done.code == 0)
    missing = "1" * len(one)
    assert not await history.contains(missing, one)
    assert not await history.contains(one, missing)


async def test_the_patch_and_a_file_are_as_git_tells_them(place: Place) -> None:
    second = place.commit(
        {"a.txt": "changed\n", "b.txt": None, "lib/new name": "n", "bin": "\0x"}, "second"
    )
    await place.made.refresh()
    history = place.made.history
    for old, new in ((place.first, second), (second, place.first), (second, second)):
        assert (await history.diff(old, new)).strip() == run(
            place.owner, "diff-tree", "-p", old, new
        )
    with pytest.raises(GitFailed):
        await history.diff(place.first, "1" * len(second))
    tree = await place.made.tree_of(second)
    assert await history.file_text(tree, "a.txt", 4) == "chan"
    assert await history.file_text(tree, "lib/new name", 99) == "n"
    for odd in ("lib", "b.txt", "none", "two\nlines", "../x"):
        assert await history.file_text(tree, odd, 99) == ""


async def test_a_large_file_is_not_read_for_its_beginning(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = place.commit({"large": "x" * (1 << 20) + "y", "most": "x" * (1 << 20)})
    await place.made.refresh()
    tree = await place.made.tree_of(large)
    assert await place.made.history.file_text(tree, "most", 4) == "xxxx"
    read = Pipe.exactly
    sizes = []

    async def exactly(pipe: Pipe, size: int) -> bytes:
        sizes.append(size)
        return await read(pipe, size)

    monkeypatch.setattr(Pipe, "exactly", exactly)
    said = await place.made.history.file_text(tree, "large", 4)
    assert said == f"(too large to be shown: {(1 << 20) + 1} bytes)"
    assert sum(sizes) < 1000


# -- patterns and reverts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.key"], ["Sub/Secret.KEY"]),
        (["secret.*"], ["Sub/Secret.KEY"]),
        ([".github/"], [".github/ci.yml", "x/.github/ci.yml"]),
        (["/.github/"], [".github/ci.yml"]),
        ([".github/*.yml"], [".github/ci.yml"]),
        (["LIB"], ["lib/deep/one", "lib/other"]),
        (["deep/"], ["lib/deep/one"]),
        (["lib/one"], []),
        (["lib/**/one"], ["lib/deep/one"]),
        (["lib/*"], ["lib/deep/one", "lib/other"]),
        (["/one"], []),
        (["one/"], ["lib/deep/one"]),
        (["one"], ["lib/deep/one"]),
        (["a.txt"], ["a.txt"]),
        (["moved.txt"], ["moved.txt"]),
        (["module/"], ["vendor/module"]),
        (["/vendor/module"], ["vendor/module"]),
        (["two", "b.txt", "", "/"], []),
        ([], []),
        (["*"], None),
    ],
)
async def test_paths_touched_by_pattern(
    place: Place, patterns: list[str], expected: list[str] | None
) -> None:
    changed = [".github/ci.yml", "x/.github/ci.yml", "lib/deep/one", "lib/other", "Sub/Secret.KEY"]
    place.commit({**dict.fromkeys(changed, "new\n"), "a.txt": None, "moved.txt": "a\n"})
    run(
        place.owner,
        *("update-index", "--add", "--cacheinfo", f"160000,{place.first},vendor/module"),
    )
    run(place.owner, "commit", "-q", "-m", "module")
    new = run(place.owner, "rev-parse", "HEAD")
    await place.made.refresh()
    if expected is None:
        expected = sorted([*changed, "a.txt", "moved.txt", "vendor/module"])
    old_tree, new_tree = [await place.made.tree_of(commit) for commit in (place.first, new)]
    assert sorted(await place.made.touched(old_tree, new_tree, patterns)) == expected
    assert await place.made.touched(new_tree, new_tree, patterns) == set()
    on_the_way = await place.made.touched_on_the_way(new, [place.first], patterns)
    assert sorted(on_the_way) == expected


async def test_an_unreadable_tree_is_not_one_without_changes(place: Place) -> None:
    tree, missing = await place.made.tree_of(place.first), "1" * len(place.first)
    with pytest.raises(GitFailed):
        await place.made.touched(tree, missing, ["*"])
    with pytest.raises(GitFailed):
        await place.made.touched_on_the_way(missing, [place.first], ["*"])


FILE, LINK, MODULE = "100644", "120000", "160000"


@pytest.mark.parametrize(
    ("pattern", "mode", "path", "expected"),
    [
        # what stands in the place of a folder
        *((".claude/", mode, ".CLAUDE", True) for mode in (FILE, LINK, MODULE)),
        *((".claude/", mode, "a/.claude", True) for mode in (FILE, LINK, MODULE)),
        *(("/q/.claude/", mode, "q", True) for mode in (FILE, LINK, MODULE)),
        *((".vscode/mcp.json", mode, ".vscode", True) for mode in (FILE, LINK, MODULE)),
        (".vscode/mcp.json", LINK, "a/.vscode", False),
        (".vscode/mcp.json", FILE, ".vscode/other", False),
        ("**/.vscode/mcp.json", LINK, "a/.vscode", True),
        ("a/b/c/", LINK, "a/b", True),
        ("infra/**/*.tf", LINK, "infra/x", True),
        ("infra/**/*.tf", FILE, "infra/x", False),
        ("infra/**/*.tf", FILE, "infra", True),
        ("infra/**/*.tf", FILE, "infra/x/y/z.TF", True),
        ("infra/**", FILE, "infra/x/y", True),
        # characters that git's own pathspecs misread
        ("Größe/", FILE, "GRÖSSE/x", True),
        ("Cafe\u0301", FILE, "CAF\u00c9", True),
        ("[mM]ake*", FILE, "a/MAKEFILE", True),
        ("x[!a-c]", FILE, "xB", False),
        ("x[!a-c]", FILE, "xd/y", True),
        ("a[!b]c", FILE, "a/c", False),
        ("a?c", FILE, "a/c", False),
        ("two\nlines", FILE, "two\nlines", True),
        (".x", FILE, "ax", False),
    ],
)
async def test_what_a_pattern_protects(
    place: Place, pattern: str, mode: str, path: str, expected: bool
) -> None:
    """Added, and taken away again."""
    run(place.store, "read-tree", place.first)
    thing = place.first if mode == MODULE else run(place.store, "rev-parse", f"{place.first}:a.txt")
    run(place.store, "update-index", "--add", "--cacheinfo", f"{mode},{thing},{path}")
    trees = [await place.made.tree_of(place.first), run(place.store, "write-tree")]
    for old, new in (trees, trees[::-1]):
        found = await place.made.touched(old, new, [pattern, "none"])
        assert found == ({path} if expected else set())


async def test_what_is_gone_at_the_end_was_touched_on_the_way(place: Place) -> None:
    """In commits of its own, or of another root; but not what a merge has from a parent."""
    owner, patterns = place.owner, [".github/"]
    run(owner, "checkout", "-q", "-b", "work")
    place.commit({".github/evil.yml": "evil\n"})
    tip = place.commit({".github/evil.yml": None, "w": "w\n"})
    run(owner, "checkout", "-q", "main")
    others = place.commit({".github/ci.yml": "others'\n"})
    run(owner, "checkout", "-q", "--orphan", "apart")
    place.commit({".github/apart.yml": "evil\n"})
    apart = place.commit({".github/apart.yml": None, ".github/ci.yml": "ci\n"})
    merged = run(owner, "commit-tree", "-p", others, "-p", tip, "-m", "m", f"{others}^{{tree}}")
    tree = run(owner, "rev-parse", f"{tip}^{{tree}}")
    mixed = run(owner, "commit-tree", "-p", others, "-p", apart, "-m", "m", tree)
    own = run(owner, "commit-tree", "-p", merged, "-p", apart, "-m", "m", f"{place.first}^{{tree}}")
    for number, commit in enumerate((merged, mixed, own)):
        run(owner, "update-ref", f"refs/heads/made-{number}", commit)
    run(place.store, "fetch", "-q", str(owner), *(f"made-{number}" for number in range(3)))
    find = place.made.touched_on_the_way
    assert await find(tip, [place.first], patterns) == {".github/evil.yml"}
    assert await find(tip, [tip], patterns) == set()
    assert await find(merged, [place.first], patterns) == {".github/evil.yml", ".github/ci.yml"}
    assert await find(merged, [place.first, others], patterns) == {".github/evil.yml"}
    assert await find(merged, [others, tip], patterns) == set()
    assert ".github/apart.yml" in await find(mixed, [others], patterns)
    assert await find(own, [merged, apart], patterns) == set()
    assert await find(own, [merged, apart], []) == set()


async def test_a_commit_is_taken_out_again(place: Place) -> None:
    second = place.commit({"a.txt": None, "lib/new": "n\n", "b.txt": "2\n"})
    third = place.commit({"lib/other": "3\n"})
    fourth = place.commit({"b.txt": "4\n"})
    await place.made.refresh()
    reverted = await place.made.revert(second, third)
    assert isinstance(reverted, Merged)
    listed = run(place.store, "diff-tree", "-r", "--name-only", place.first, reverted.tree)
    assert listed == "lib/other"
    conflict = await place.made.revert(second, fourth)
    assert isinstance(conflict, Conflict)
    assert conflict.paths == ("b.txt",)
    whole = await place.made.revert(place.first, place.first)
    assert isinstance(whole, Merged)
    assert run(place.store, "ls-tree", whole.tree) == ""


async def test_what_stands_on_ours_merges_to_itself(place: Place) -> None:
    second = place.commit({"a.txt": "2\n"})
    await place.made.refresh()
    merged = await place.made.merge(place.first, second)
    assert merged == Merged(await place.made.tree_of(second))


# -- work carried from a workshop ------------------------------------------------------------------

WORK = {
    "a file": "echo x >new; git add -A; git commit -qm x",
    "deep files": "echo x >lib/deep/one; mkdir -p p/q/r; echo x >p/q/r/s; git add -A;"
    "git commit -qm x",
    "a moved folder": "git mv lib/deep moved; git commit -qm x",
    "moved and deleted": "git mv a.txt lib/deep/c; git rm -q b.txt; git commit -qm x",
    "many commits": "for n in 1 2 3; do echo $n >a.txt; git commit -qam $n; done",
    "there and back": "echo x >a.txt; git commit -qam 1; git revert --no-edit HEAD",
    "a merge": "git checkout -qb side; echo z >z; git add z; git commit -qm z;"
    "git checkout -q task; echo y >y; git add y; git commit -qm y; git merge -q --no-edit side",
    "no files left": "git rm -rq .; git commit -qm x",
    "modes and links": "chmod +x a.txt; ln -s b.txt link; git add -A; git commit -qm x",
    "an empty commit": "git commit -q --allow-empty -m x",
    "a large file": "seq 100000 >large; git add -A; git commit -qm x",
}


def commit_in(shop: Workshop, script: str) -> str:
    subprocess.run(["sh", "-ec", script], cwd=shop.tree, check=True, capture_output=True)
    return run(shop.tree, "rev-parse", "HEAD")


@pytest.mark.parametrize("case", WORK)
async def test_loose_work_is_carried_whole(place: Place, case: str) -> None:
    shop = await place.workshop()
    tip = await to_thread.run_sync(commit_in, shop, WORK[case])
    assert await place.carry(shop, tip)
    shutil.rmtree(shop.git_dir)
    assert place.is_whole(tip)
    run(place.store, "fsck", "--strict", tip)


async def test_what_is_not_a_few_loose_objects_is_left_to_a_fetch(place: Place) -> None:
    shop = await place.workshop()
    work = {
        "packed": "echo x >a.txt; git commit -qam x; git repack -qad",
        "a copied folder": "cp -r lib/deep copy; git add -A; git commit -qm x",
        "many": "for n in $(seq 400); do echo $n >$n; done; git add -A; git commit -qm x",
        "large": "head -c 9000000 /dev/zero >zero; git add -A; git commit -qm x",
    }
    for number, (case, script) in enumerate(work.items()):
        shop = await place.workshop(f"shop{number}")
        tip = await to_thread.run_sync(commit_in, shop, script)
        assert not await place.carry(shop, tip), case


@pytest.mark.parametrize(
    "spoil",
    [
        "rm $(path $(git rev-parse HEAD:new))",
        "rm $(path $(git rev-parse HEAD^{tree}))",
        "f=$(path $(git rev-parse HEAD:new)); chmod +w $f; echo x | tee $f",
        "f=$(path $(git rev-parse HEAD:new)); cp --remove-destination"
        " $(path $(git rev-parse HEAD)) $f",
        "f=$(path $(git rev-parse HEAD:new)); mv $f ../kept; ln -s $PWD/../kept $f",
        "f=$(path $(git rev-parse HEAD:new)); rm $f; mkfifo $f",
        "d=$(dirname $(path $(git rev-parse HEAD:new))); mv $d ../fan; ln -s $PWD/../fan $d",
    ],
)
async def test_spoilt_objects_are_not_taken(place: Place, spoil: str) -> None:
    shop = await place.workshop()
    path = 'path() { echo "$(git rev-parse --git-common-dir)/objects/$(echo $1 | cut -c1-2)/$(' \
        'echo $1 | cut -c3-)"; }'  # fmt: skip
    tip = await to_thread.run_sync(
        commit_in, shop, "echo only here >new; git add -A; git commit -qm x"
    )
    await to_thread.run_sync(
        lambda: subprocess.run(["sh", "-ec", f"{path}\n{spoil}"], cwd=shop.tree, check=True)
    )
    assert not await place.carry(shop, tip)
    found = await read_objects(place.git, place.store, [tip])
    assert found == [None]


async def test_git_refuses_an_evil_tree_that_is_carried(place: Place) -> None:
    shop = await place.workshop()
    blob = run(shop.tree, "hash-object", "-w", "--stdin", stdin=b"[core]\n")
    evil = bytes.fromhex(blob)
    tree = run(
        shop.tree,
        *("hash-object", "-t", "tree", "-w", "--literally", "--stdin"),
        stdin=b"100644 .git\0" + evil,
    )
    tip = run(shop.tree, "commit-tree", "-p", place.first, "-m", "x", tree)
    with pytest.raises(GitFailed, match="fsck error"):
        await place.carry(shop, tip)
    assert await read_objects(place.git, place.store, [tree, tip]) == [None, None]


async def test_a_tree_with_a_hole_that_lies_about_is_not_built_on(place: Place) -> None:
    """What a refused fetch left in our repository is there, but not whole."""
    shop = await place.workshop()
    tip = await to_thread.run_sync(
        commit_in, shop, "mkdir hole; echo lost >hole/lost; git add -A; git commit -qm x"
    )
    hole = run(shop.tree, "rev-parse", "HEAD:hole")
    entry = await read_objects(place.git, shop.git_dir, [hole])
    await place.git.close(shop.git_dir)
    assert entry[0] is not None
    run(place.store, *("hash-object", "-t", "tree", "-w", "--stdin"), stdin=entry[0].data)
    for name in (hole, run(shop.tree, "rev-parse", "HEAD:hole/lost")):
        (shop.git_dir / "objects" / name[:2] / name[2:]).unlink()
    assert not await place.carry(shop, tip)


# -- upkeep ----------------------------------------------------------------------------------------


async def test_loose_objects_are_packed_and_nothing_is_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await place.workshop()
    tip = await to_thread.run_sync(commit_in, shop, "echo x >new; git add -A; git commit -qm x")
    assert await place.carry(shop, tip)  # no ref leads there
    assert await place.made.tree_of(tip)
    assert not await place.made.tidy()
    monkeypatch.setattr("alluvium_like.gitrepo.tidy._MANY_LOOSE", 0)
    assert await place.made.tidy()
    assert run(place.store, "count-objects").startswith("0 objects")
    assert place.is_whole(tip)
    run(shop.tree, "fsck")
    found = await read_objects(place.git, place.store, [tip, place.first])
    assert None not in found
    again = await write_commit(
        place.git, place.store, await place.made.tree_of(tip), [tip], "y", WHO, WHO
    )
    assert await place.made.history.diff(place.first, again)


async def test_history_of_a_repository_is_not_that_of_another(place: Place) -> None:
    other = History(place.git, place.owner / ".git")
    second = place.commit({"a.txt": "2\n"})
    assert (await other.commit(second)).parents == (place.first,)
    with pytest.raises(GitFailed):
        await place.made.history.commit(second)
    await place.git.close(other.path)
