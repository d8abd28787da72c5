"""Submodules and LFS files in a worktree: they work, or the attempt says what is missing."""

from pathlib import Path

from bed import Bed
from test_setup import events, table


def library(bed: Bed, name: str, files: dict[str, str]) -> Path:
    """Make a repository that others take in as a submodule."""
    path = bed.root.parent / name
    bed.git("init", "-q", "-b", "main", str(path), cwd=bed.root.parent)
    for file, text in files.items():
        (path / file).write_text(text)
    bed.git("add", "-A", cwd=path)
    bed.git("commit", "-q", "-m", "first", cwd=path)
    return path


def take_in(bed: Bed, where: Path, url: str, path: str) -> None:
    """Add a submodule to a repository, and commit it."""
    allowed = ("-c", "protocol.file.allow=always")
    bed.git(*allowed, "submodule", "--quiet", "add", url, path, cwd=where)
    bed.git("commit", "-q", "-m", f"Take in {path}", cwd=where)


AGENT = """
test "$(cat lib/lib.txt)" = lib
test "$(cat lib/deep/deep.txt)" = deep
test -z "$(git status --porcelain)"
git -C lib rev-parse HEAD > work.txt
"""


def test_submodules_are_filled_from_where_the_owner_has_them_without_their_origin(
    bed: Bed,
) -> None:
    bed.make(AGENT, '[integration]\nrun_tests = ["cat lib/deep/deep.txt"]\n')
    deep = library(bed, "deep", {"deep.txt": "deep"})
    lib = library(bed, "lib", {"lib.txt": "lib"})
    take_in(bed, lib, str(deep), "deep")
    take_in(bed, bed.repo, str(lib), "lib")
    allowed = ("-c", "protocol.file.allow=always")
    bed.git(*allowed, "submodule", "--quiet", "update", "--init", "--recursive")
    for each in (deep, lib):
        each.rename(each.with_name(f"{each.name}-away"))  # nothing can be had from there
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "done", "failed", "needs_human")
    assert task["state"] == "done", task["reason"]
    assert bed.base_file("work.txt") == bed.git("-C", "lib", "rev-parse", "HEAD")
    assert bed.git("ls-tree", "main", "lib").startswith("160000 commit")
    bed.stop()


def test_a_submodule_comes_from_beside_the_owner_s_origin(bed: Bed) -> None:
    bed.make("cat lib/lib.txt > work.txt\n")
    library(bed, "lib", {"lib.txt": "lib"})
    bed.git("remote", "add", "origin", str(bed.root.parent / "project.git"))
    take_in(bed, bed.repo, "../lib", "lib")
    bed.git("submodule", "--quiet", "deinit", "--force", "--all")
    (bed.repo / ".git" / "modules").rename(bed.root.parent / "modules-away")
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "done", "failed", "needs_human")
    assert task["state"] == "done", task["reason"]
    assert bed.base_file("work.txt") == "lib"
    bed.stop()


def test_a_submodule_that_cannot_be_had_is_named_with_the_reason(bed: Bed) -> None:
    bed.make("exit 0\n")
    lib = library(bed, "lib", {"lib.txt": "lib"})
    take_in(bed, bed.repo, str(lib), "lib")
    lib.rename(lib.with_name("away"))
    (bed.repo / ".git" / "modules").rename(bed.root.parent / "modules-away")
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "failed")
    assert "submodule lib: " in task["reason"]
    assert f"cannot be had from {lib}" in task["reason"]
    assert "\n" not in task["reason"]
    bed.stop()


def test_what_an_agent_says_of_submodules_runs_and_fetches_nothing(bed: Bed) -> None:
    """A revision begins with what an agent committed: its .gitmodules counts for nothing."""
    bed.make()
    lib = library(bed, "lib", {"lib.txt": "lib"})
    take_in(bed, bed.repo, str(lib), "lib")
    ran = bed.root.parent / "ran"
    other = library(bed, "other", {"lib.txt": "other"})
    bed.set_agent(
        f"""
        git config -f .gitmodules submodule.lib.url {other}
        git config -f .gitmodules submodule.new.path new
        git config -f .gitmodules submodule.new.url 'ext::sh -c "touch% {ran}"'
        git update-index --add --cacheinfo 160000,"$(git -C lib rev-parse HEAD)",new
        mkdir new
        git add .gitmodules
        git commit -q -m "Hostile"
        echo "Is it right?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
        """
    )
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "needs_human")
    bed.set_agent("cat lib/lib.txt; ls -A new\n")
    bed.cli("answer", task["id"], "go on")
    bed.wait(lambda: len(events(bed, "attempt_judged")) == 2, "the second attempt")
    assert (bed.folder("task") / ".system/attempts/2/stdout.log").read_text() == "lib"
    assert events(bed, "submodule_without_name")[0]["path"] == "new"
    assert not ran.exists()
    bed.stop()


def test_a_commit_that_is_in_the_worktree_only_does_not_land_as_a_submodule(bed: Bed) -> None:
    bed.make()
    lib = library(bed, "lib", {"lib.txt": "lib"})
    take_in(bed, bed.repo, str(lib), "lib")
    before = bed.git("rev-parse", "main")
    who = "-c user.name=x -c user.email=x@x"
    inner = f"echo inner > lib/lib.txt; git -C lib {who} commit -q -a -m inner; git add lib"
    nested = f"git init -q new; git -C new {who} commit -q --allow-empty -m new; git add new"
    bed.start()
    for name, commands, said in (
        ("inner", inner, "the agent moved submodule lib to "),
        ("nested", nested, "the agent committed new, a Git repository of its own"),
    ):
        bed.set_agent(f"{commands} 2> /dev/null; git commit -q -m outer\n")
        bed.drop(name)
        task = bed.wait_for(name, "done", "failed", "needs_human")
        assert (task["state"], said in task["reason"]) == ("needs_human", True), task["reason"]
        assert "\n" not in task["reason"]
    assert bed.git("rev-parse", "main") == before
    (bed.repo / "lib" / "lib.txt").write_text("next")
    bed.git("commit", "-q", "-a", "-m", "next", cwd=bed.repo / "lib")
    there = bed.git("rev-parse", "HEAD", cwd=bed.repo / "lib")
    bed.set_agent(
        f"git update-index --cacheinfo 160000,{there},lib; git commit -q -m 'Move to the next'\n"
    )
    bed.drop("known")
    task = bed.wait_for("known", "done", "failed", "needs_human")
    assert task["state"] == "done", "the owner's repository has that commit"
    bed.stop()


def test_lfs_files_are_told_of_unless_pointers_will_do(bed: Bed) -> None:
    bed.make("echo work > work.txt\n")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    bed.commit({".gitattributes": "*.bin filter=lfs\n"})
    bed.start()
    bed.drop("without")
    assert bed.wait_for("without", "done", "failed")["state"] == "done", "there is no such file"
    bed.git("config", "filter.lfs.clean", "cat")
    bed.commit({"sound.bin": pointer})
    bed.drop("held")
    task = bed.wait_for("held", "done", "failed", "needs_human")
    assert task["state"] == "failed"
    assert "sound.bin is kept by Git LFS" in task["reason"]
    assert "lfs_pointers = true" in task["reason"]
    bed.configure(table(lfs_pointers=True))
    bed.cli("reload")
    bed.drop("pointers")
    assert bed.wait_for("pointers", "done", "failed", "needs_human")["state"] == "done"
    bed.stop()
