"""The built-in agent as the daemon runs it: a real process, a worktree of a bare repository."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "2001-02-03T04:05:06+0000",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
POEM = "one\ntwo\nthree\nfour\nfive\n"


def git(folder: Path, *args: str) -> str:
    return subprocess.run(
        ["git", *args],
        cwd=folder,
        env=os.environ | IDENTITY,
        check=True,
        capture_output=True,
        text=True,
        errors="surrogateescape",
    ).stdout.strip()


@dataclass(frozen=True)
class Bench:
    """A source repository to make patches in, a workshop with its worktree, and a task's folder."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def workshop(self) -> Path:
        return self.root / "workshop.git"

    @property
    def worktree(self) -> Path:
        return self.root / "worktree"

    @property
    def input(self) -> Path:
        return self.root / "task" / "input"

    @property
    def agent_dir(self) -> Path:
        return self.root / "task" / ".agent"

    def commit(self, message: str, **files: str | bytes) -> str:
        """Commit `files` to the source; returns the commit."""
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            (self.source / name).write_bytes(raw)
        git(self.source, "add", "--all")
        git(self.source, "commit", "-q", "-m", message)
        return git(self.source, "rev-parse", "HEAD")

    def open_workshop(self) -> None:
        """Clone what the source's main reaches, nothing else, and hang the worktree on it."""
        git(self.root, "clone", "-q", "--bare", "--no-local", str(self.source), str(self.workshop))
        for key, value in (("user.name", "Worker"), ("user.email", "worker@example.org")):
            git(self.workshop, "config", key, value)
        git(self.workshop, "worktree", "add", "-q", "-b", "task/t", str(self.worktree), "main")

    def move_base(self) -> None:
        """Bring the newest main of the source to the workshop."""
        git(self.workshop, "fetch", "-q", str(self.source), "+main:main")

    def mail(self, since: str = "HEAD~1", *options: str) -> str:
        return git(self.source, "format-patch", "--stdout", *options, f"{since}..HEAD") + "\n"

    def drop(self, name: str, content: str | bytes) -> Path:
        path = self.input / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, **environment: str) -> dict[str, Any]:
        """Run the agent, which must exit 0; returns result.json."""
        ended = self.start(**environment)
        assert ended.returncode == 0, ended.stderr
        assert not ended.stderr
        result: dict[str, Any] = json.loads((self.agent_dir / "result.json").read_text())
        for name in ("understanding.md", "plan.md", "result.md", "outputs/inventory.json"):
            assert (self.agent_dir / name).read_text()
        return result

    def start(self, **environment: str) -> subprocess.CompletedProcess[str]:
        told = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "ALLUVIUM_TASK_DIR": str(self.input.parent),
            "ALLUVIUM_AGENT_DIR": str(self.agent_dir),
            "ALLUVIUM_WORKTREE": str(self.worktree),
            "ALLUVIUM_BASE_BRANCH": "main",
        }
        return subprocess.run(
            [sys.executable, "-P", "-m", "alluvium_like.agents.builtin"],
            cwd=self.worktree,
            env=told | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def head(self) -> str:
        return git(self.worktree, "rev-parse", "HEAD")

    def new_commits(self) -> list[str]:
        """Return the commits above the base as `author: subject`, oldest first."""
        return git(self.worktree, "log", "--reverse", "--format=%an: %s", "main..HEAD").splitlines()

    def assert_clean_at(self, commit: str) -> None:
        assert self.head() == commit
        assert git(self.worktree, "status", "--porcelain") == ""
        assert git(self.worktree, "symbolic-ref", "HEAD") == "refs/heads/task/t"
        git_dir = Path(git(self.worktree, "rev-parse", "--absolute-git-dir"))
        assert not (git_dir / "rebase-apply").exists()
        assert not (git_dir / "MERGE_HEAD").exists()

    def question(self) -> str:
        return (self.agent_dir / "needs_human.md").read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.input.mkdir(parents=True)
    bench.agent_dir.mkdir()
    git(tmp_path, "init", "-q", "-b", "main", str(bench.source))
    bench.commit("Start", poem=POEM)
    return bench


def replay(bench: Bench, to: str = "main~1") -> None:
    """Take the newest commit off the source's main: it lives on in a dropped patch only."""
    git(bench.source, "reset", "-q", "--hard", to)


def drop_one_mail(bench: Bench) -> None:
    bench.commit("Count in capitals\n\nThe body stays.", poem=POEM.replace("two", "TWO"))
    bench.drop("0001.patch", bench.mail())
    replay(bench)


def test_a_mail_keeps_author_date_and_message(bench: Bench) -> None:
    bench.commit("[ui] Count\n\nThe body stays.", poem=POEM.replace("two", "TWO"))
    bench.drop("0001.patch", bench.mail())
    replay(bench)
    bench.open_workshop()
    assert bench.run() == {"status": "succeeded", "summary": "Applied 1 patch in 1 commit."}
    said = git(bench.worktree, "log", "-1", "--format=%an|%ae|%ad|%cn|%s|%b", "--date=iso")
    assert said == (
        "Ada|ada@example.org|2001-02-03 04:05:06 +0000|Worker|[ui] Count|The body stays."
    )
    assert (bench.worktree / "poem").read_text() == POEM.replace("two", "TWO")
    bench.assert_clean_at(bench.head())


def test_a_plain_diff_is_committed_under_the_configured_author(bench: Bench) -> None:
    (bench.source / "poem").write_text(POEM.replace("five", "FIVE"))
    bench.drop("shout it.diff", git(bench.source, "diff") + "\n")
    git(bench.source, "reset", "-q", "--hard")
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    assert bench.new_commits() == ["Worker: Apply shout it.diff"]
    bench.assert_clean_at(bench.head())


def test_patches_go_in_by_the_order_of_their_paths(bench: Bench) -> None:
    start = git(bench.source, "rev-parse", "HEAD")
    for number, word in enumerate(("one", "two", "three"), 1):
        bench.commit(f"Step {number}", poem=(bench.source / "poem").read_text() + word + "\n")
        bench.drop(f"series/000{number}.patch", bench.mail())
    replay(bench, start)
    bench.open_workshop()
    assert bench.run()["summary"] == "Applied 3 patches in 3 commits."
    assert bench.new_commits() == ["Ada: Step 1", "Ada: Step 2", "Ada: Step 3"]


def test_a_mailbox_of_several_and_a_cover_letter_are_understood(bench: Bench) -> None:
    start = git(bench.source, "rev-parse", "HEAD")
    for number in (1, 2):
        bench.commit(f"Step {number}", poem=(bench.source / "poem").read_text() + f"{number}\n")
    git(bench.source, "format-patch", "--cover-letter", "-o", str(bench.input), start)
    (bench.input / "0002-Step-2.patch").unlink()
    (bench.input / "0001-Step-1.patch").unlink()
    bench.drop("both.patch", bench.mail(start, "--cover-letter"))
    replay(bench, start)
    bench.open_workshop()
    assert bench.run()["summary"] == "Applied 2 patches in 2 commits."
    assert "cover-letter.patch`: carries no change" in (bench.agent_dir / "result.md").read_text()


def test_without_patches_nothing_is_committed(bench: Bench) -> None:
    bench.open_workshop()
    before = bench.head()
    bench.drop("note.md", "please do something")
    assert bench.run()["status"] == "succeeded"
    bench.assert_clean_at(before)
    assert not (bench.agent_dir / "needs_human.md").exists()


def test_the_inventory_follows_nothing_and_waits_for_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.open_workshop()
    secret = tmp_path / "secret.patch"
    secret.write_text("secret")
    bench.drop("data/a.bin", b"\x00\x01")
    bench.drop(".git/planted.patch", "From: x")
    os.mkfifo(bench.input / "pipe.patch")
    (bench.input / "link.patch").symlink_to(secret)
    (bench.input / "loop").symlink_to(".")
    (bench.input / "folder.patch").mkdir()
    (bench.input / os.fsdecode(b"bad\xff\n-name")).touch()
    with (bench.input / "sparse").open("wb") as stream:
        stream.truncate(2**40)
    assert bench.run()["summary"] == "No patches in the input; nothing to do."
    inventory = json.loads((bench.agent_dir / "outputs" / "inventory.json").read_text())
    assert inventory["left_out"] == 0
    by_path = {entry["path"]: entry for entry in inventory["entries"]}
    assert {path: entry["kind"] for path, entry in by_path.items()} == {
        "data": "folder",
        "data/a.bin": "file",
        ".git": "folder",
        "pipe.patch": "fifo",
        "link.patch": "symlink",
        "loop": "symlink",
        "folder.patch": "folder",
        "bad\\udcff\\n-name": "file",
        "sparse": "file",
    }
    assert by_path["data/a.bin"]["sha256"] == hashlib.sha256(b"\x00\x01").hexdigest()
    assert by_path["data/a.bin"]["size"] == 2
    assert by_path["sparse"]["sha256"] is None
    assert by_path["link.patch"]["sha256"] is None


def test_one_patch_that_does_not_fit_undoes_them_all_and_asks(bench: Bench) -> None:
    drop_one_mail(bench)
    bench.commit("Cannot fit", poem=POEM.replace("four", "4"))
    bench.drop("0002.patch", bench.mail())
    replay(bench)
    bench.commit("In the way", poem=POEM.replace("four", "quatre"))
    bench.open_workshop()
    before = bench.head()
    result = bench.run()
    assert result == {"status": "needs_human", "summary": "0002.patch does not apply."}
    bench.assert_clean_at(before)
    question = bench.question()
    assert "`0002.patch` does not apply" in question
    assert "CONFLICT (content): Merge conflict in poem" in question
    assert "answer" in question
    assert "cancel" in question


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no diff at all\n",
        "diff --git a/gone b/gone\n--- a/gone\n+++ b/gone\n@@ -1 +1 @@\n-x\n+y\n",
    ],
)
def test_a_broken_diff_is_asked_about(bench: Bench, content: str) -> None:
    bench.open_workshop()
    before = bench.head()
    bench.drop("broken.diff", content)
    assert bench.run()["status"] == "needs_human"
    assert "error: " in bench.question()
    bench.assert_clean_at(before)


def test_a_conflicting_diff_leaves_no_trace(bench: Bench) -> None:
    (bench.source / "new").write_text("new\n")
    (bench.source / "poem").write_text(POEM.replace("two", "2"))
    git(bench.source, "add", "--all")
    bench.drop("both.diff", git(bench.source, "diff", "--cached") + "\n")
    git(bench.source, "reset", "-q", "--hard")
    bench.commit("In the way", poem=POEM.replace("two", "deux"))
    bench.open_workshop()
    before = bench.head()
    assert bench.run()["status"] == "needs_human"
    bench.assert_clean_at(before)
    assert not (bench.worktree / "new").exists()


def test_a_patch_outside_the_worktree_is_refused(bench: Bench) -> None:
    bench.open_workshop()
    before = bench.head()
    bench.drop(
        "escape.diff",
        "diff --git a/../out b/../out\nnew file mode 100644\n--- /dev/null\n+++ b/../out\n"
        "@@ -0,0 +1 @@\n+x\n",
    )
    assert bench.run()["status"] == "needs_human"
    bench.assert_clean_at(before)
    assert not (bench.root / "out").exists()


@pytest.mark.parametrize("whole_history", [True, False], ids=["known blobs", "unknown blobs"])
@pytest.mark.parametrize("kind", ["mail", "diff"])
def test_what_the_base_holds_already_is_a_success(
    bench: Bench, kind: str, whole_history: bool
) -> None:
    bench.commit("Change", poem=POEM.replace("two", "TWO"))
    if kind == "mail":
        bench.drop("x.patch", bench.mail())
    else:
        bench.drop("x.diff", git(bench.source, "diff", "HEAD~1") + "\n")
    if not whole_history:
        git(bench.source, "checkout", "-q", "--orphan", "fresh")
        bench.commit("Squashed", poem=POEM.replace("two", "TWO") + "six\n")
        git(bench.source, "branch", "-q", "-M", "fresh", "main")
    bench.open_workshop()
    before = bench.head()
    result = bench.run()
    assert result["status"] == "succeeded"
    assert result["summary"].startswith("Nothing to commit")
    bench.assert_clean_at(before)


def test_a_series_of_which_the_base_holds_a_part_is_completed(bench: Bench) -> None:
    start = git(bench.source, "rev-parse", "HEAD")
    bench.commit("First", poem=POEM.replace("one", "ONE"))
    bench.commit("Second", other="new\n")
    bench.drop("both.patch", bench.mail(start))
    git(bench.source, "checkout", "-q", "--orphan", "fresh", "HEAD~1")
    bench.commit("Squashed", poem=POEM.replace("one", "ONE").replace("five", "cinq"))
    git(bench.source, "branch", "-q", "-M", "fresh", "main")
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    assert bench.new_commits() == ["Ada: Second"]


CRLF = POEM.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("kind", ["mail", "diff"])
def test_files_with_crlf_stay_with_crlf(bench: Bench, kind: str) -> None:
    bench.commit("CRLF", dos=CRLF)
    bench.commit("Change", dos=CRLF.replace(b"two", b"TWO"), new=b"a\r\nb\r\n")
    made = subprocess.run(
        ["git", *(["format-patch", "--stdout"] if kind == "mail" else ["diff"]), "HEAD~1"],
        cwd=bench.source,
        check=True,
        capture_output=True,
    ).stdout
    bench.drop("x.patch", made)
    replay(bench)
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    assert (bench.worktree / "dos").read_bytes() == CRLF.replace(b"two", b"TWO")
    assert (bench.worktree / "new").read_bytes() == b"a\r\nb\r\n"


@pytest.mark.parametrize("kind", ["mail", "diff"])
def test_a_patch_converted_to_crlf_as_a_whole_still_applies(bench: Bench, kind: str) -> None:
    bench.commit("Change", poem=POEM.replace("two", "TWO"))
    made = bench.mail() if kind == "mail" else git(bench.source, "diff", "HEAD~1") + "\n"
    bench.drop("x.patch", made.replace("\n", "\r\n"))
    replay(bench)
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    assert (bench.worktree / "poem").read_bytes() == POEM.replace("two", "TWO").encode()
    if kind == "mail":
        assert bench.new_commits() == ["Ada: Change"]


@pytest.mark.parametrize("kind", ["mail", "diff"])
def test_a_converted_patch_for_files_with_crlf_applies_too(bench: Bench, kind: str) -> None:
    bench.commit("CRLF", dos=CRLF)
    bench.commit("Change", dos=CRLF.replace(b"two", b"TWO"))
    command = ["format-patch", "--stdout"] if kind == "mail" else ["diff"]
    made = subprocess.run(
        ["git", *command, "HEAD~1"], cwd=bench.source, check=True, capture_output=True
    ).stdout
    bench.drop("x.patch", made.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    replay(bench)
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    assert (bench.worktree / "dos").read_bytes() == CRLF.replace(b"two", b"TWO")


@pytest.mark.parametrize("name", ["--abort.patch", "-x\n`rm`.diff", "\u202egpj.PATCH"])
def test_hostile_file_names_are_names_only(bench: Bench, name: str) -> None:
    (bench.source / "poem").write_text(POEM.replace("five", "FIVE"))
    bench.drop(name, git(bench.source, "diff") + "\n")
    git(bench.source, "reset", "-q", "--hard")
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    (said,) = bench.new_commits()
    assert said.isprintable()
    assert said.startswith("Worker: Apply ")


def test_hooks_signing_and_personal_settings_have_no_part_in_it(bench: Bench) -> None:
    drop_one_mail(bench)
    (bench.source / "poem").write_text(POEM.replace("five", "FIVE"))
    bench.drop("0002.diff", git(bench.source, "diff") + "\n")
    git(bench.source, "reset", "-q", "--hard")
    bench.open_workshop()
    for hook in ("pre-commit", "applypatch-msg", "pre-applypatch", "post-commit"):
        path = bench.workshop / "hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {bench.root}/ran\nexit 1\n")
        path.chmod(0o755)
    git(bench.workshop, "config", "commit.gpgSign", "true")
    git(bench.workshop, "config", "gpg.program", "/nonexistent")
    (bench.root / ".gitconfig").write_text("[core]\n autocrlf = true\n[user]\n name = Person\n")
    assert bench.run(GIT_DIR="/nonexistent")["status"] == "succeeded"
    assert bench.new_commits() == ["Ada: Count in capitals", "Worker: Apply 0002.diff"]
    assert not (bench.root / "ran").exists()
    assert b"\r" not in (bench.worktree / "poem").read_bytes()


def start_revision(bench: Bench, text: str) -> None:
    (bench.agent_dir / "revision_request.md").write_text(text)


def test_patches_that_do_not_fit_the_new_base_of_a_merge_are_asked_about(bench: Bench) -> None:
    bench.commit("Mine", poem=POEM + "mine\n", mine="m\n")
    bench.drop("mine.patch", bench.mail())
    replay(bench)
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    bench.commit("Theirs", poem=POEM + "theirs\n")
    bench.move_base()
    with pytest.raises(subprocess.CalledProcessError):
        git(bench.worktree, "merge", "-q", "--no-edit", "main")
    start_revision(bench, "conflict in poem")
    before = git(bench.worktree, "rev-parse", "HEAD")
    result = bench.run()
    assert result["status"] == "needs_human"
    assert "CONFLICT" in bench.question()
    bench.assert_clean_at(before)


def test_an_unfinished_merge_is_replaced_by_the_patches_on_its_new_base(bench: Bench) -> None:
    bench.commit("Mine", poem=POEM.replace("two", "TWO"))
    bench.drop("mine.patch", bench.mail())
    replay(bench)
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    # Work that an earlier attempt left on the branch stands in the way, the patch does not.
    (bench.worktree / "other").write_text("left over\n")
    (bench.worktree / "place").write_text("a file here, a folder there\n")
    git(bench.worktree, "add", "--all")
    git(bench.worktree, "commit", "-q", "-m", "Left over")
    (bench.source / "place").mkdir()
    base = bench.commit("Theirs", other="theirs\n", **{"place/x": "x"})
    bench.move_base()
    with pytest.raises(subprocess.CalledProcessError):
        git(bench.worktree, "merge", "-q", "--no-edit", "main")
    start_revision(bench, "conflict in other")
    # The base is what the daemon merged, even where the branch has moved on meanwhile.
    git(bench.workshop, "update-ref", "refs/heads/main", f"{base}~1")
    assert bench.run()["status"] == "succeeded"
    assert git(bench.worktree, "rev-parse", "HEAD~1") == base
    assert (bench.worktree / "other").read_text() == "theirs\n"
    assert (bench.worktree / "poem").read_text() == POEM.replace("two", "TWO")
    bench.assert_clean_at(bench.head())


def send_back(bench: Bench) -> str:
    """Let the agent succeed once, merge a newer base as the daemon does, and ask for a revision."""
    drop_one_mail(bench)
    bench.open_workshop()
    assert bench.run()["status"] == "succeeded"
    bench.commit("Elsewhere", elsewhere="x\n")
    bench.move_base()
    git(bench.worktree, "merge", "-q", "--no-edit", "main")
    log = "\n".join(f"line {number}" for number in range(100))
    start_revision(bench, f"# Tests failed\n{log}\nAssertionError: \x1b[31m7\n")
    return bench.head()


def test_failed_tests_with_the_same_patches_go_to_a_person(bench: Bench) -> None:
    before = send_back(bench)
    assert bench.run()["status"] == "needs_human"
    question = bench.question()
    assert "AssertionError: \\x1b[31m7" in question
    assert "line 99" in question
    assert "line 9\n" not in question
    bench.assert_clean_at(before)


def test_after_an_answer_the_patches_are_applied_to_the_newest_base(bench: Bench) -> None:
    send_back(bench)
    assert bench.run(ALLUVIUM_ANSWERED="1")["status"] == "succeeded"
    assert not (bench.agent_dir / "needs_human.md").exists()
    assert git(bench.worktree, "rev-parse", "HEAD~1") == git(bench.worktree, "rev-parse", "main")
    assert bench.new_commits() == ["Ada: Count in capitals"]


def test_an_answered_refusal_is_tried_on_the_newest_base(bench: Bench) -> None:
    start = git(bench.source, "rev-parse", "HEAD")
    bench.commit("First", poem=POEM.replace("two", "2"))
    bench.commit("Second", poem=POEM.replace("two", "II"))
    bench.drop("second.patch", bench.mail())
    replay(bench, start)
    bench.open_workshop()
    assert bench.run()["status"] == "needs_human"
    (bench.agent_dir / "needs_human.md").unlink()
    bench.commit("First again", poem=POEM.replace("two", "2"))
    bench.move_base()
    assert bench.run(ALLUVIUM_ANSWERED="1")["status"] == "succeeded"
    assert bench.new_commits() == ["Ada: Second"]


def test_without_a_named_base_it_works_from_where_it_stands(bench: Bench) -> None:
    drop_one_mail(bench)
    bench.open_workshop()
    assert bench.run(ALLUVIUM_BASE_BRANCH="")["status"] == "succeeded"
    assert bench.new_commits() == ["Ada: Count in capitals"]


def test_where_git_cannot_work_it_fails_with_one_line(bench: Bench) -> None:
    drop_one_mail(bench)
    bench.worktree.mkdir()
    ended = bench.start(GIT_CEILING_DIRECTORIES=str(bench.root))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "not a git repository" in ended.stderr
    ended = bench.start(PATH="/nonexistent")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1


def test_outside_a_task_it_says_what_is_missing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "alluvium_like.agents.builtin"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("ALLUVIUM_TASK_DIR is not set")


def test_it_starts_without_the_daemons_libraries() -> None:
    code = (
        "import sys, alluvium_like.agents.builtin;"
        "print([n for n in ('pydantic', 'anyio', 'asyncio', 'dataclasses') if n in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
