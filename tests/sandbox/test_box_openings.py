"""Ways around a box that have been open once: what it shows too much of, what it leaves unasked."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from bed import COMMIT, Bed

from alluvium_like.config import Config
from alluvium_like.config.agents import Profile
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.sandbox import calls, programs
from alluvium_like.sandbox.box import Access, Box, Mount, system_mounts
from alluvium_like.sandbox.bubblewrap import enclosed, find_problem
from alluvium_like.sandbox.programs import Doubt, own_mounts, program_mounts, tool_mounts
from alluvium_like.stages.boxes import Boxes
from alluvium_like.workspace import Workspace

boxed = pytest.mark.skipif(bool(find_problem()), reason="needs bubblewrap")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def shown(mounts: list[Mount]) -> set[Path]:
    return {mount.place for mount in mounts if mount.access is Access.READ}


@pytest.mark.parametrize("prefix", [".", ".local"])
@pytest.mark.parametrize("library", ["lib/python3.11", "lib/node_modules"])
def test_programs_that_share_their_folder_with_a_person_come_without_it(
    home: Path, prefix: str, library: str
) -> None:
    """As `pip install --user` and `npm config set prefix ~` put them."""
    place = home / prefix
    (place / library).mkdir(parents=True)
    program = place / "bin" / "agent"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (place / "share" / "keyrings").mkdir(parents=True)
    environment = {"HOME": str(home), "PATH": str(program.parent)}
    found = shown(program_mounts(["agent"], environment, home)) | shown(tool_mounts(environment))
    assert {place / "bin", place / "lib"} <= found
    assert not any((place / "share").is_relative_to(each) for each in found)


def test_a_folder_of_path_that_holds_the_home_folder_is_no_tool(home: Path) -> None:
    """As PATH names "/" where a variable in front of it is not set."""
    path = os.pathsep.join((os.sep, str(home.parent), str(home)))
    assert tool_mounts({"HOME": str(home), "PATH": path}) == []


def test_a_program_that_an_agent_may_write_shows_nothing_else(home: Path, tmp_path: Path) -> None:
    secret = home / ".ssh" / "id_x"
    secret.parent.mkdir()
    secret.write_text("secret")
    workspace = Workspace(tmp_path / "ws")
    tree = workspace.worktrees / "t"
    (tree / "tools").mkdir(parents=True)
    (tree / "tools" / "linked").symlink_to(secret)
    (tree / "tools" / "script").write_text(f"#!{secret}\n")
    (tree / "folder").symlink_to(secret.parent)
    boxes, box = Boxes(workspace), Box((Mount.of(tree, Access.WRITE),))
    environment = {"ALLUVIUM_WORKTREE": str(tree), "PATH": os.environ["PATH"]}
    for program in ("tools/linked", "tools/script", f"{tree}/tools/script", "folder/id_x"):
        assert boxes.with_program(Config(), box, program, [], environment) == box
        assert boxes.with_program(Config(), box, "sh", [program], environment) == box
    named = ["sh", str(tree / "tools" / "linked"), str(tree / "folder" / "id_x")]
    assert boxes.with_program(Config(), box, "sh", named, environment) == box


def test_nor_does_one_in_a_folder_that_the_owner_lets_it_write(home: Path, tmp_path: Path) -> None:
    secret = home / ".ssh" / "id_x"
    secret.parent.mkdir()
    secret.write_text("secret")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "linked").symlink_to(secret)
    (scratch / "script").write_text(f"#!{secret}\n")
    (tmp_path / "beside").symlink_to(scratch / "linked")
    (tmp_path / "round").symlink_to(scratch)
    (scratch / "folder").symlink_to(secret.parent)
    (tmp_path / "far").symlink_to(scratch / "folder")
    boxes, box = Boxes(Workspace(tmp_path / "ws")), Box((Mount.of(scratch, Access.WRITE),))
    programs = (scratch / "linked", scratch / "script", tmp_path / "round" / "script")
    for program in (*programs, tmp_path / "beside", tmp_path / "far" / "id_x"):
        words = ["sh", str(program)]
        found = boxes.with_program(Config(), box, str(program), words, {"PATH": "/bin"}).mounts
        assert all(each.access is Access.LINK for each in found[1:]), program


def test_a_folder_of_path_that_agents_write_is_no_tool(home: Path, tmp_path: Path) -> None:
    """It may have become a link to anywhere; so may what lies on the way to it."""
    open_place = tmp_path / "open"
    (open_place / "bin").mkdir(parents=True)
    (open_place / "folder").symlink_to(home)
    (tmp_path / "far").symlink_to(open_place / "folder")
    for folder in (open_place / "bin", open_place / "folder", tmp_path / "far"):
        environment = {"HOME": str(home), "PATH": str(folder)}
        assert tool_mounts(environment, Doubt((open_place,))) == []


def test_an_installation_is_not_one_for_what_agents_wrote(home: Path, tmp_path: Path) -> None:
    project, base = tmp_path / "project", tmp_path / "base"
    for folder in (project / "bin", project / "lib" / "node_modules", base, home / ".ssh"):
        folder.mkdir(parents=True)
    (base / "bin").symlink_to(home / ".ssh")
    tool, other = project / "bin" / "tool", tmp_path / "venv" / "bin" / "tool"
    other.parent.mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\n")
    for program in (tool, other):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    doubt = Doubt((project / "lib", base))
    assert shown(program_mounts([str(tool)], {"PATH": "/bin"}, tmp_path, doubt)) == {tool}
    found = shown(program_mounts([str(other)], {"PATH": "/bin"}, tmp_path, doubt))
    assert home / ".ssh" not in found
    assert tmp_path / "venv" in found


def test_of_what_has_landed_the_file_that_is_named_is_shown_and_no_link(
    home: Path, tmp_path: Path
) -> None:
    repo, secret = tmp_path / "repo", home / "secret"
    (repo / "tools").mkdir(parents=True)
    secret.write_text("secret")
    plain, script, link = (repo / "tools" / name for name in ("plain", "script", "link"))
    plain.touch()
    script.write_text(f"#!{secret}\n")
    link.symlink_to(secret)
    doubt = Doubt(landed=repo)
    for path, expected in ((plain, {plain}), (script, {script}), (link, set())):
        for line in ([str(path)], ["sh", str(path)]):
            assert shown(program_mounts(line, {"PATH": "/bin"}, tmp_path, doubt)) == expected


def test_an_environment_in_the_owners_repository_is_shown_and_never_all_of_that(
    home: Path, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    tools = repo / ".venv"
    for prefix in (tools, repo):
        (prefix / "lib" / "python3.11").mkdir(parents=True)
        (prefix / "bin").mkdir()
        (prefix / "bin" / "check").touch()
    doubt = Doubt(landed=repo)
    environment = {"HOME": str(home), "PATH": f"{tools / 'bin'}:{repo / 'bin'}"}
    assert shown(tool_mounts(environment, doubt)) == {tools, repo / "bin"}
    for prefix, expected in ((tools, {tools}), (repo, set())):
        program = prefix / "bin" / "check"
        found = shown(program_mounts([str(program)], {"PATH": "/bin"}, tmp_path, doubt))
        assert found == {program, *expected}
    (tmp_path / "beside").mkdir()
    tools.rename(tmp_path / "beside" / "venv")
    tools.symlink_to(tmp_path / "beside" / "venv")
    assert shown(tool_mounts(environment, doubt)) == {repo / "bin"}


def test_a_home_folder_by_another_name_is_not_shown_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /home that is a link to /var/home."""
    real = tmp_path / "var" / "home"
    (real / "bin").mkdir(parents=True)
    (real / "lib" / "node_modules").mkdir(parents=True)
    home = tmp_path / "home"
    home.symlink_to(real)
    monkeypatch.setenv("HOME", str(home))
    found = tool_mounts({"HOME": str(home), "PATH": str(real / "bin")})
    assert real not in shown(found)
    boxes = Boxes(Workspace(tmp_path / "ws"))
    for word in (home, real):
        box = boxes.with_program(Config(), Box(), "sh", ["sh", str(word)], {"PATH": "/bin"})
        assert not {home, real} & shown(list(box.mounts))


def test_a_link_of_the_owners_into_a_writable_folder_leads_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    program, link = tmp_path / "data" / "agent", tmp_path / "linked"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    link.symlink_to(program)
    doubt = Doubt((tmp_path / "data",))
    for line in ([str(link)], ["sh", str(link)]):
        found = program_mounts(line, {"PATH": "/bin"}, tmp_path, doubt)
        assert found == [Mount(link, Access.LINK, program)]


def test_odd_first_lines_of_scripts_are_no_interpreters(tmp_path: Path) -> None:
    one, other, odd = tmp_path / "one", tmp_path / "other", tmp_path / "odd"
    one.write_text(f"#!{other}\n")
    other.write_text(f"#!{one}\n")
    odd.write_text("#!/foo\0bar\n")
    for program in (one, odd):
        program_mounts([str(program)], {"PATH": "/bin"}, tmp_path)


def test_a_folder_of_path_that_nobody_may_look_into_is_no_tool(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "shut")

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(Path, "lstat", refuse)
    assert tool_mounts({"HOME": str(home), "PATH": f"{home}/shut/bin"}) == []


def test_what_makes_the_box_runs_where_no_agent_wrote(bed: Bed) -> None:
    """A library or a program in its current folder would be taken by what PATH leaves open."""
    seen = bed.root.parent / "seen"
    wrapper = bed.root.parent / "bin" / "bwrap"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\npwd >> "{seen}"\nexec /usr/bin/env -u X bwrap-real "$@"\n')
    wrapper.chmod(0o755)
    if find_problem():
        pytest.skip("needs bubblewrap")
    found = subprocess.run(["which", "bwrap"], capture_output=True, text=True, check=True)
    (wrapper.parent / "bwrap-real").symlink_to(found.stdout.strip())
    bed.environment["PATH"] = f"{wrapper.parent}:{bed.environment['PATH']}"
    bed.make(COMMIT, config="[sandbox]\nnetwork = 'none'\n[integration]\nrun_tests = ['true']")
    bed.start()
    seen.write_text("")
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    assert seen.read_text().split() == ["/", "/"]


CALLS = """
import fcntl, os, socket, ctypes
os.chdir("/tmp"); open("f", "w").close()
keyctl = {keyctl}
libc = ctypes.CDLL(None, use_errno=True)
def ask(number, *more):
    if libc.syscall(number, *more) < 0:
        raise OSError(ctypes.get_errno(), "")
def tried(what):
    try:
        what()
    except OSError as error:
        return error.errno
    return 0
create = os.O_CREAT | os.O_WRONLY
print([tried(what) for what in (
    lambda: os.chmod("f", 0o4755), lambda: os.chmod(os.open("f", os.O_RDONLY), 0o4755),
    lambda: os.open("g", create, 0o4755), lambda: fcntl.ioctl(0, 0x5412, b"x"),
    lambda: ask(keyctl, 0, -3, 1), lambda: socket.socket(40), lambda: ask(425, 1, 0),
    lambda: os.chmod("f", 0o755), lambda: os.open("h", create, 0o644),
    lambda: os.open("h", os.O_RDONLY, 0o4755), lambda: socket.socket(socket.AF_INET6),
    lambda: socket.socket(), lambda: socket.socketpair(), lambda: socket.socket(16, 3, 0),
)])
"""


@boxed
def test_what_no_namespace_keeps_apart_is_refused() -> None:
    numbers = calls._MACHINES.get(os.uname().machine)
    if numbers is None:
        pytest.skip("no filter for this machine")
    box = Box((*system_mounts(), *own_mounts()), "loopback")
    script = CALLS.format(keyctl=numbers.keys[-1])
    with calls.opened_filter() as opened:
        argv = [str(programs.PYTHON), "-I", "-c", script]
        done = subprocess.run(
            enclosed(replace(box), argv, Path("/"), -1, (), opened),
            pass_fds=[opened],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.strip() == str([1, 1, 1, 1, 1, 97, 38, *[0] * 7]), done.stderr


@boxed
def test_without_the_filter_too_nobody_in_a_box_has_a_right_or_gets_one() -> None:
    """Machines that the filter does not know have to do without it."""
    box = Box((*system_mounts(), *own_mounts()), "loopback")
    script = "grep CapEff /proc/self/status; unshare --user id -u"
    argv = enclosed(box, ["sh", "-c", script], Path("/"), -1, ())
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["CapEff:", "0" * 16], done.stderr
    assert done.returncode != 0


def test_the_filter_knows_the_machines_that_are_common() -> None:
    for machine in ("x86_64", "aarch64", "riscv64"):
        program = calls.filter_for(machine)
        assert len(program) % 8 == 0
        assert program[-8:] == calls._step(calls._RETURN, calls._ALLOW)
    assert calls.filter_for("another") == b""


@boxed
def test_words_are_not_typed_into_the_terminal_of_a_person(bed: Bed) -> None:
    """They would be read by the person's own shell when the box is left."""
    bed.make("exit 1\n")
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "failed")["id"]
    ours, theirs = os.openpty()
    script = "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')"
    shell = ("sandbox", "shell", task, "--", str(programs.PYTHON), "-I", "-c", script)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "alluvium_like", "-C", str(bed.root), *shell],
        stdin=theirs,
        capture_output=True,
        text=True,
        env=bed.environment,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert "PermissionError: [Errno 1]" in done.stderr


@boxed
def test_a_secret_of_the_system_that_is_made_later_is_hidden_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, folder = 1000.0, tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr("alluvium_like.stages.boxes.monotonic", lambda: now)
    monkeypatch.setattr("alluvium_like.sandbox.box._SEARCHED", {folder: 1})
    (tmp_path / "shop.git").mkdir()
    boxes, shop = Boxes(Workspace(tmp_path / "ws")), Workshop("t", tmp_path / "shop.git", tmp_path)
    secret = folder / "secret"
    secret.touch(0o600)

    def is_hidden() -> bool:
        line = boxes.reader_of(Config(), Profile(), shop, tmp_path)
        return (os.devnull, str(secret)) in pairwise(line)

    assert not is_hidden(), "what nobody has to look for again at once"
    now += 61
    assert is_hidden()
