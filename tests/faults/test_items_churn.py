"""Items that change while they are looked at and claimed: none is lost, nobody is led outside."""

import threading
from collections import Counter
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from random import Random

import pytest
from hostile_items import Outside
from test_intake_scale import opened

from alluvium_like.guarded import open_folder
from alluvium_like.inbox.look import Ignore, Limits, examine, list_items
from alluvium_like.stages.intake import Intake

LIMITS = Limits(entries=1000, size=1000)
STEPS = 200


class Churner:
    """Makes, renames and removes files and folders in the inbox; knows which it left behind."""

    def __init__(self, inbox: Path, number: int, outside: Outside) -> None:
        self.inbox, self.number, self.outside = inbox, number, outside
        self.random = Random(number)
        self.there: set[str] = set()

    def run(self) -> None:
        known: dict[str, Path] = {}
        for step in range(STEPS):
            folder = self.inbox / self.random.choice(("a", "b", "c")) / self.random.choice("xyz")
            token = f"{self.number}-{step}"
            with suppress(OSError):  # it was claimed in between, or another one is at it
                match self.random.randrange(6):
                    case 0 | 1 | 2:
                        folder.mkdir(parents=True, exist_ok=True)
                        self._write(folder / token, token)
                        known[token] = folder / token
                    case 3:
                        self._write(self.inbox / token, token)
                    case 4 if known:
                        token, path = self.random.choice(sorted(known.items()))
                        path.unlink()
                        self.there.discard(token)
                    case _:
                        self._swap(folder.parent / f"swapped-{self.number}")

    def _write(self, path: Path, text: str) -> None:
        """The token counts from when the file is there; what was opened is written in any case."""
        with path.open("x") as stream:
            self.there.add(text)
            stream.write(text)

    def _swap(self, folder: Path) -> None:
        """Put a link to the outside in a folder's place, for a moment."""
        aside = folder.with_name(f"{folder.name}-aside")
        folder.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
        folder.symlink_to(self.outside.root)
        folder.unlink()
        aside.rename(folder)


async def test_what_comes_and_goes_during_the_claim_is_in_exactly_one_place(tmp_path: Path) -> None:
    outside = Outside(tmp_path / "outside")
    outside.make()
    before = outside.picture()
    async with opened(tmp_path) as parts:
        space, stage = parts.workspace, Intake(parts, ignore_settle=True)
        churners = [Churner(space.inbox, number, outside) for number in range(3)]
        threads = [threading.Thread(target=churner.run) for churner in churners]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await stage.look(set())
        while list(space.inbox.iterdir()):
            await stage.look(set())
        assert not await parts.store.claims()
        assert len(await parts.store.rows("list_tasks")) == len(list(space.tasks.iterdir()))
    found = Counter(
        path.read_text()
        for place in (space.tasks, space.quarantine)
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name[0].isdigit()
    )
    assert set(found.values()) == {1}
    assert set(found) == set().union(*(churner.there for churner in churners))
    assert not outside.was_read()
    assert outside.picture() == before


@pytest.mark.parametrize("turn", [2, 3])
def test_a_link_that_takes_a_folders_place_during_the_look_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """The folder itself was found and is about to be listed, or one in it is."""
    outside = Outside(tmp_path / "outside")
    outside.make()
    outside.picture()
    sub = tmp_path / "inbox" / "item" / "sub"
    (sub / "folder").mkdir(parents=True)
    (item,) = list_items(tmp_path / "inbox", Ignore((), ()))
    opened_ones: list[Path] = []

    def swap_and_open(path: Path) -> AbstractContextManager[int]:
        opened_ones.append(path)
        if len(opened_ones) == turn:
            sub.rename(sub.with_name("aside"))
            sub.symlink_to(outside.root)
        return open_folder(path)

    monkeypatch.setattr("alluvium_like.inbox.look.open_folder", swap_and_open)
    assert examine(tmp_path / "inbox", item, LIMITS).fingerprint is None, "it changed"
    assert len(opened_ones) == turn
    assert not outside.was_read()
