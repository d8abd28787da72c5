"""What was an agent's is moved and deleted, whatever it looks like, and nothing beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from warm_bed import nest, only_owners_rights

from alluvium_like import deletion
from alluvium_like.deletion import empty, to_trash


def never() -> bool:
    return False


@pytest.fixture
def trash(tmp_path: Path) -> Path:
    folder = tmp_path / "trash"
    folder.mkdir()
    return folder


def test_folders_nested_beyond_any_path_are_deleted(tmp_path: Path, trash: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    nest(tree, 3000, "file")
    to_trash(tree, trash)
    limit = sys.getrecursionlimit()
    before = len(os.listdir("/proc/self/fd"))
    sys.setrecursionlimit(120)
    try:
        empty(trash, never)
    finally:
        sys.setrecursionlimit(limit)
    assert not os.listdir(trash)
    assert len(os.listdir("/proc/self/fd")) == before


def test_links_pipes_and_locked_folders_hide_nothing_and_lead_nowhere(
    tmp_path: Path, trash: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    tree = trash / "x"
    (tree / "locked" / "deeper").mkdir(parents=True)
    for link in (tree / "link", trash / "link", tree / "locked" / "deeper" / "link"):
        link.symlink_to(mine)
    os.link(mine / "file", tree / "file")
    os.mkfifo(tree / "fifo")
    Path(os.fsdecode(bytes(tree) + b"/raw\xff\n")).write_text("x")
    (tree / "locked" / "deeper").chmod(0)
    (tree / "locked").chmod(0)
    empty(trash, never)
    assert not os.listdir(trash)
    assert (mine / "file").read_text() == "mine"


_ORDINARY = """
import os, sys
from pathlib import Path
from alluvium_like.deletion import empty, to_trash
root = Path(sys.argv[1])
tree, trash = root / "tree", root / "trash"
here = tree
for depth in range(150):
    here = here / "d"
here.mkdir(parents=True)
(here / "file").write_text("x")
while here != root:
    here.chmod(0o555 if len(here.parts) % 2 else 0)
    here = here.parent
try:
    tree.rename(trash / "x")
except PermissionError:
    to_trash(tree, trash)
    empty(trash, lambda: False)
    print(os.listdir(root), os.listdir(trash))
"""


def test_rights_that_were_taken_away_are_in_nobodys_way(tmp_path: Path, trash: Path) -> None:
    lost = "-dac_override,-dac_read_search"
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set", lost, "--inh-caps", lost),
            *(sys.executable, "-c", _ORDINARY, str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['trash'] []\n", done.stderr


def test_what_is_not_ours_to_move_gets_out_of_the_way(
    tmp_path: Path, trash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_owners_rights(monkeypatch)
    monkeypatch.setattr(deletion, "make_movable", lambda path, folder=None: None)  # not ours
    (tmp_path / "tree" / "theirs").mkdir(parents=True)
    (tmp_path / "tree").chmod(0o555)
    to_trash(tmp_path / "tree", trash)
    assert not (tmp_path / "tree").exists()
    assert [path.name for path in tmp_path.glob(".left-*/*")] == ["theirs"]


def test_one_stubborn_piece_holds_up_nothing_beside_it(
    trash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (trash / name / "in").mkdir(parents=True)
        (trash / name / "in" / "file").write_text(name)
        (trash / name / f"stubborn-{name}").write_text(name)
    real = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "stubborn-b":
            raise PermissionError(1, "Operation not permitted", name)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError, match="stubborn-b"):
        empty(trash, never)
    left = sorted(str(path.relative_to(trash)) for path in trash.rglob("*"))
    assert left == ["b", "b/stubborn-b"]


def test_a_stop_is_quick_and_leaves_the_rest_for_later(trash: Path) -> None:
    tree = trash / "a"
    tree.mkdir()
    for number in range(20):
        (tree / str(number)).write_text("x")
    asked = iter([False] * 5)
    empty(trash, lambda: next(asked, True))
    assert 15 <= len(os.listdir(tree)) < 20
    empty(trash, never)
    assert not os.listdir(trash)


def test_two_may_delete_at_once(trash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (trash / name / "in").mkdir(parents=True)
        (trash / name / "in" / "file").write_text("x")
    real = os.unlink
    first = True

    def others_first(name: str, *, dir_fd: int) -> None:
        nonlocal first
        if first:
            first = False
            empty(trash, never)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", others_first)
    empty(trash, never)
    assert not os.listdir(trash)
