"""What a box shows: mounts in their order, programs with what they need, limits, the command."""

import os
from pathlib import Path

import pytest

from alluvium_like.sandbox.box import Access, Box, Limits, Mount, system_mounts
from alluvium_like.sandbox.bubblewrap import enclosed
from alluvium_like.sandbox.programs import program_mounts, tool_mounts

A, B = Path("/a"), Path("/a/b")


def script(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def places(mounts: list[Mount]) -> dict[Path, Access]:
    return {mount.place: mount.access for mount in mounts}


def test_the_deeper_mount_counts_in_whatever_order_they_come() -> None:
    inner, outer = Mount.of(B, Access.WRITE), Mount.of(A, Access.HIDDEN)
    assert Box((inner, outer)).ordered == Box((outer, inner)).ordered == [outer, inner]


def test_of_two_mounts_at_one_place_the_later_one_counts() -> None:
    box = Box((Mount.of(A), Mount.of(A, Access.WRITE)))
    assert box.ordered == [Mount.of(A, Access.WRITE)]


def test_a_mount_that_shows_what_is_there_already_is_left_out() -> None:
    assert Box((Mount.of(A), Mount.of(B))).ordered == [Mount.of(A)]
    elsewhere = Mount(B, Access.READ, Path("/c"))
    assert Box((Mount.of(A), elsewhere)).ordered == [Mount.of(A), elsewhere]
    # What is hidden in between has to be shown again.
    link = Mount(B / "link", Access.LINK, Path("there"))
    assert Box((Mount.of(A), link)).ordered == [Mount.of(A)]
    assert Box((Mount(A, Access.READ, Path("/c")), link)).ordered[1:] == [link]
    hidden, deep = Mount.of(B, Access.HIDDEN), Mount.of(B / "c")
    assert Box((Mount.of(A), hidden, deep)).ordered == [Mount.of(A), hidden, deep]


def test_what_was_found_to_be_needed_takes_nothing_away_from_what_was_said() -> None:
    """As a test command that names a file in a folder which it may write."""
    box = Box((Mount.of(A, Access.WRITE),))
    assert box.with_needed([Mount.of(A), Mount.of(B)]) == box
    elsewhere = Mount(B, Access.READ, Path("/c"))
    hidden = Box((Mount.of(A, Access.HIDDEN),))
    for needed, said in ((elsewhere, box), (Mount.of(B), hidden)):
        assert said.with_needed([needed]).mounts == (*said.mounts, needed)
    link = Mount(B, Access.LINK, Path("there"))
    assert box.with_needed([link]) == box
    assert hidden.with_needed([link]).ordered[1:] == [link]


def test_what_in_etc_only_its_owner_may_read_is_hidden() -> None:
    hidden = [mount.place for mount in system_mounts() if mount.access is Access.HIDDEN]
    assert Path("/etc/shadow") in hidden
    assert Path("/etc/passwd") not in hidden


def test_a_secret_that_is_gone_is_not_covered(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    box = Box((Mount.of(there, Access.HIDDEN), Mount.of(gone, Access.HIDDEN)))
    line = enclosed(box, ["true"], Path("/"), -1, ())
    assert str(there) in line
    assert str(gone) not in line


def test_a_program_comes_with_its_links_its_packages_and_its_interpreter(tmp_path: Path) -> None:
    interpreter = script(tmp_path / "tools" / "bin" / "node")
    (tmp_path / "tools" / "lib" / "node_modules").mkdir(parents=True)
    real = script(tmp_path / "x" / "node_modules" / "cli" / "cli.js", "#!/usr/bin/env node\n")
    link = tmp_path / "bin" / "cli"
    link.parent.mkdir()
    link.symlink_to(real)
    found = program_mounts(
        ["cli"], {"PATH": f"{link.parent}:{interpreter.parent}:/usr/bin"}, tmp_path
    )
    assert Mount(link, Access.LINK, real) in found
    assert places(found)[tmp_path / "x" / "node_modules"] is Access.READ
    assert places(found)[tmp_path / "tools"] is Access.READ


def test_a_program_of_a_virtual_environment_comes_with_all_of_that(tmp_path: Path) -> None:
    base = script(tmp_path / "python" / "bin" / "python3")
    (tmp_path / "python" / "lib" / "python3.99").mkdir(parents=True)
    environment = tmp_path / "venv"
    program = script(environment / "bin" / "tool", f"#!{environment}/bin/python3\n")
    (environment / "bin" / "python3").symlink_to(base)
    (environment / "pyvenv.cfg").write_text(f"home = {base.parent}\nversion = 3.99\n")
    found = places(program_mounts([str(program)], {"PATH": "/usr/bin"}, tmp_path))
    assert found[environment] is Access.READ
    assert found[tmp_path / "python"] is Access.READ


def test_a_single_script_comes_alone_and_named_paths_come_with_it(tmp_path: Path) -> None:
    program = script(tmp_path / "agent.sh")
    data = tmp_path / "data"
    data.mkdir()
    words = [str(program), "--data", str(data), "/nowhere", "relative", "/usr/bin"]
    found = places(program_mounts(words, {"PATH": "/usr/bin"}, tmp_path))
    assert found == {program: Access.READ, data: Access.READ}


def test_a_program_that_leads_around_or_is_not_there_needs_nothing(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert {mount.access for mount in program_mounts([str(loop)], {}, tmp_path)} <= {Access.LINK}
    assert program_mounts(["no-such-program"], {"PATH": str(tmp_path)}, tmp_path) == []
    assert program_mounts([], {}, tmp_path) == []
    itself = script(tmp_path / "itself", f"#!{tmp_path}/itself\n")
    assert places(program_mounts([str(itself)], {}, tmp_path)) == {itself: Access.READ}


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        (".pyenv/shims", ".pyenv"),
        (".nvm/versions/node/v20/bin", ".nvm"),
        (".cargo/bin", ".cargo/bin"),
        (".local/bin", ".local/bin"),
        ("scripts", "scripts"),
    ],
)
def test_tools_in_the_home_folder_are_shown_and_nothing_beside_them(
    tmp_path: Path, folder: str, shown: str
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path / folder}:/usr/bin:relative::/gone"}
    assert tool_mounts(environment) == [Mount.of(tmp_path / shown)]


def test_the_home_folder_itself_is_never_a_tool(tmp_path: Path) -> None:
    assert tool_mounts({"HOME": str(tmp_path), "PATH": str(tmp_path)}) == []


def test_the_command_makes_every_namespace_and_says_the_limits_to_the_helper() -> None:
    limits = Limits(processes=5, memory_bytes=7, file_bytes=9, scratch_bytes=11)
    box = Box((Mount.of(A, Access.EMPTY), Mount.of(B, Access.WRITE)), "loopback", (), limits)
    words = enclosed(box, ["agent", "--flag"], Path("/a/b"), 3, (3128,))
    for flag in ("--unshare-user", "--unshare-pid", "--unshare-net", "--die-with-parent"):
        assert flag in words
    assert words[-2:] == ["agent", "--flag"]
    assert words[-5:-2] == [
        "3",
        "RLIMIT_NPROC=5 RLIMIT_DATA=7 RLIMIT_FSIZE=9 RLIMIT_CORE=0",
        "3128",
    ]
    text = " ".join(words)
    assert f"--size 11 --tmpfs {A} --bind {B} {B}" in text
    assert "--remount-ro /" in text


@pytest.mark.parametrize(("network", "own"), [("allow", True), ("loopback", True), ("full", False)])
def test_only_the_full_network_is_that_of_the_machine(network: str, own: bool) -> None:
    words = enclosed(Box((), network), ["true"], Path(os.sep), -1, ())  # type: ignore[arg-type]
    assert ("--unshare-net" in words) is own
    assert words[0] != "unshare"


def test_no_network_has_not_even_a_loopback() -> None:
    words = enclosed(Box((), "none"), ["true"], Path(os.sep), -1, ())
    assert Path(words[0]).name == "unshare"
    assert words[1:5] == ["--user", "--map-current-user", "--net", "--"]
