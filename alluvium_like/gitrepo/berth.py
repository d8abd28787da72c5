"""The place of one warm worktree: its files while nobody has them, and what proves them clean.

    warm/<n>/tree     the files; they come and go by rename
    warm/<n>/index    written with the checkout; it never leaves, who takes the tree gets copies
    warm/<n>/marker   written after the checkout: what changed later than this is not ours

All methods block and raise OSError; one caller at a time, who holds `lock`.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import anyio

from alluvium_like.deletion import make_movable, to_trash
from alluvium_like.execution.identity import boot_id
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.cleaning import Attributes, Fresh, clean, read_attributes, read_index
from alluvium_like.gitrepo.workshop import (
    Source,
    Workshop,
    hang_tree,
    is_real_folder,
    read_untrusted,
)
from alluvium_like.log import get_logger

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class Berth:
    """One place. `commit` is what its index holds, where known; `size` of the files, in bytes.

    `made` once something was checked out; `clean` while the tree is just that; `lost` for good.
    """

    folder: Path
    commit: str = ""
    made: bool = False
    clean: bool = False
    lost: bool = False
    attributes: Attributes = frozenset()
    size: int = 0
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def tree(self) -> Path:
        """The files, while nobody has them."""
        return self.folder / "tree"

    @property
    def index(self) -> Path:
        """The index that was written with the checkout."""
        return self.folder / "index"

    @property
    def marker(self) -> Path:
        """The file whose time of change comes after those of the checkout."""
        return self.folder / "marker"

    def scrub(
        self, source: Source, fresh: Fresh, trash: Path, interrupted: Callable[[], bool]
    ) -> bool:
        """Clean the used tree; return whether no file is missing now.

        Raises UnusableTree, Interrupted.
        """
        index = read_index(self.index, source.object_format)
        self.size, self.attributes = index.size, index.attributes
        self.folder.joinpath("index.lock").unlink(missing_ok=True)  # of a checkout that was killed
        marked_ns = self.marker.lstat().st_ctime_ns
        return clean(self.tree, index, marked_ns, fresh, trash, interrupted)

    def mark(self, source: Source) -> bool:
        """Note that a checkout is over; false where it has to be begun from an empty tree.

        A file of attributes decides how others are written, but git goes from one commit to another
        by writing only what differs between them. Raises UnusableTree.
        """
        attributes = read_attributes(self.index, source.object_format)
        if self.made and attributes != self.attributes:
            return False
        if not self.size:
            self.size = read_index(self.index, source.object_format).size
        self.attributes = attributes
        self.marker.write_text(boot_id())
        self.made = True
        return True

    def empty(self, trash: Path) -> None:
        """Throw the files away, and what is known of them."""
        self.made = False
        to_trash(self.tree, trash)
        self.index.unlink()
        self.tree.mkdir()

    def hand_over(self, workshop: Workshop) -> None:
        """Let a workshop whose repository is written have the tree."""
        with step("warm.hand_out"):
            self.tree.rename(workshop.tree)
        hang_tree(workshop)
        for copy in (workshop.index, workshop.admin / "index"):
            shutil.copyfile(self.index, copy)

    def put_back(self, workshop: Workshop) -> bool:
        """Take the tree of a workshop back; false where there is none that can be had."""
        if not is_real_folder(workshop.tree):
            return False
        try:
            make_movable(workshop.tree)
            with step("warm.take_back"):
                workshop.tree.rename(self.tree)
        except OSError:
            log.exception("worktree_not_put_back")
            return False
        return True


def new_berth(pool: Path) -> Berth:
    """Make an empty place; blocks. Raises OSError."""
    for number in count(1):
        berth = Berth(pool / str(number))
        try:
            berth.folder.mkdir()
        except FileExistsError:
            continue
        break
    return berth


def adopt(pool: Path, workshop: Workshop, commit: str) -> Berth:
    """Make a place for a tree that was just checked out, and is out; blocks. Raises OSError."""
    berth = new_berth(pool)
    shutil.copyfile(workshop.index, berth.index)
    berth.marker.write_text(boot_id())
    berth.commit, berth.made = commit, True
    return berth


def find_left(pool: Path, trash: Path) -> list[Berth]:
    """Return the places that an earlier daemon left, throw away what is none; blocks.

    After a reboot none is: a file may be as long as it was, and its contents never have reached the
    disk. Raises OSError.
    """
    found = []
    for folder in sorted(pool.iterdir()):
        berth = Berth(folder, made=True)
        if read_untrusted(berth.marker) == boot_id() and is_real_folder(berth.tree):
            found.append(berth)
            continue
        try:
            to_trash(folder, trash)
        except OSError:
            log.exception("left_where_it_is", path=str(folder))
    return found
