"""One daemon with the box, every hostile deed, honest work among them: no deed succeeds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_more import DEEDS
from hostile_scene import HONEST, HostileScene

from alluvium_like.sandbox.bubblewrap import find_problem

TABLE = Path(__file__).parents[2] / "contrib" / "sandbox" / "results" / "hostile.md"
pytestmark = [
    pytest.mark.skipif(bool(find_problem()), reason="needs bubblewrap: install bubblewrap"),
    pytest.mark.timeout(300),  # some eighty tasks
]


@dataclass(frozen=True)
class Played:
    """What came of all deeds."""

    scene: HostileScene
    succeeded: dict[str, bool]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with HostileScene(tmp_path_factory.mktemp("hostile"), "bubblewrap").opened() as scene:
        yield Played(scene, scene.play(DEEDS))


def test_no_deed_succeeds(played: Played) -> None:
    assert [name for name, succeeded in played.succeeded.items() if succeeded] == []
    assert played.succeeded.keys() == DEEDS.keys()


def test_every_deed_was_tried(played: Played) -> None:
    """None of them passes for failed because its script never ran."""
    folders = {name: played.scene.bed.folder(name) / ".agent" / "outputs" for name in DEEDS}
    later = {name for name, deed in DEEDS.items() if deed.after == "later"}
    assert [n for n, folder in folders.items() if not (folder / "began").exists()] in ([], [*later])


def test_honest_work_lands_and_the_daemon_lives(played: Played) -> None:
    bed = played.scene.bed
    tasks = {task["name"]: task for task in bed.json("list")}
    assert {name: tasks[name]["outcome"] for name in HONEST} == dict.fromkeys(HONEST, "merged")
    status = bed.json("status")
    assert status["daemon"]["pid"] == played.scene.pid
    assert not status["conditions"]


def test_the_repositories_are_whole_and_nothing_is_left_running(played: Played) -> None:
    bed = played.scene.bed
    for place in (bed.repo, bed.root / ".alluvium" / "integration.git"):
        bed.git("fsck", "--full", "--strict", cwd=place)
    assert bed.git("branch", "--format=%(refname)").split() == ["refs/heads/main"]
    assert bed.git("status", "--porcelain", "--untracked-files=no") == ""
    assert played.scene.processes("outputs/") == []


def test_the_table_that_people_read_names_every_deed() -> None:
    lines = TABLE.read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")][2:]
    assert [(row[0], row[1]) for row in rows] == [(d.after, n) for n, d in DEEDS.items()]
    for _, name, without, boxed in rows:
        said = f"fails: {DEEDS[name].open}" if DEEDS[name].open else "**succeeds**"
        assert (name, without, boxed) == (name, said, "fails")
