"""A whole life with hostile names: the work on them, the commands about them, out and back."""

import json
import os
import re
import stat

import pytest
from bed import COMMIT, Bed
from hostile_items import (
    TERA,
    File,
    Folder,
    HardLink,
    Link,
    Outside,
    Picture,
    Recipe,
    Repository,
    Sparse,
    Special,
    make,
    picture,
)

from alluvium_like.cli.plain import print_json, printable
from alluvium_like.task import display_name

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
HOSTILE = b"\x1b[2J\x1b]0;owned\x07\xc2\x9b31m\xe2\x80\xae\xff"
PLAIN = File(b"please", 0o644, None, attribute=False)
CLAIMED: dict[bytes, Recipe] = {
    **dict.fromkeys((b"two\nlines", b"-rf", b"\xff" * 255, b"n" * 255, b"$(touch owned)"), PLAIN),
    HOSTILE: Folder(
        {
            HOSTILE: PLAIN,
            b"to folder": Link("{outside}"),
            b"sub": Folder({HOSTILE: Repository()}, 0o755, 0),
        },
        0o755,
        -1,
    ),
    b"endless": Link("/dev/zero"),
    b"shared": HardLink(),
}
SET_ASIDE: dict[bytes, Recipe] = {
    HOSTILE + b"1": Special(stat.S_IFIFO),
    HOSTILE + b"2": Folder({HOSTILE: Special(stat.S_IFSOCK)}, 0o755, None),
    HOSTILE + b"3": Sparse(TERA),
}


def say(bed: Bed, *args: str | bytes) -> str:
    """Run a command, whatever its end, and return all that a terminal would have got."""
    done = bed.run("-C", str(bed.root), *args)
    text = done.stdout + done.stderr
    assert not STEERING.search(text), (args, text)
    return text


def test_hostile_names_live_a_whole_life_and_reach_no_terminal(bed: Bed) -> None:
    outside = Outside(bed.root.parent / "outside")
    outside.make()
    bed.make(COMMIT, config="[safety]\nmax_workers = 3")
    dropped = CLAIMED | SET_ASIDE
    for name, recipe in dropped.items():
        make(bed.inbox / os.fsdecode(name), recipe, outside)
    before = {name: picture(bed.inbox / os.fsdecode(name)) for name in dropped}
    theirs = outside.picture()
    bed.start()
    assert bed.wait_until_idle() == {"done": len(CLAIMED)}
    bed.stop()

    tasks = {task["id"]: task["name"] for task in bed.json("list")}
    assert sorted(tasks.values()) == sorted(map(display_name, CLAIMED))
    (hostile,) = [key for key, name in tasks.items() if name == display_name(HOSTILE)]
    assert picture(bed.root / "tasks" / hostile / "input") == before[HOSTILE]
    check_commands(bed, hostile)
    check_files(bed)
    check_backup(bed, before)
    assert not outside.marker.exists()
    assert not outside.was_read()
    assert outside.picture() == theirs


def check_commands(bed: Bed, task: str) -> None:
    for command in ("status", "list", "queue", "quarantine list", "gc --dry-run", "verify"):
        say(bed, *command.split())
    for command in ("show", "log", "diff"):
        say(bed, command, task)
    assert display_name(HOSTILE) in say(bed, "show", task, "--json").replace("\\\\", "\\")
    for entry in bed.json("quarantine", "list"):
        (item,) = entry["items"]
        assert item in say(bed, "quarantine", "show", entry["name"])
    source = bed.root.parent / os.fsdecode(HOSTILE)
    source.touch()
    assert say(bed, "submit", bytes(source)).startswith("submitted: ")
    (bed.inbox / source.name).unlink()
    for mistake in (
        ["show", HOSTILE],
        ["quarantine", "show", HOSTILE],
        ["submit", HOSTILE],
        ["submit", "-", "--name", b"/" + HOSTILE],
        ["list", "--state", HOSTILE],
        ["restore", HOSTILE],
        ["-C", HOSTILE, "status"],
        [HOSTILE],
    ):
        assert len(say(bed, *mistake)) > 10


def check_files(bed: Bed) -> None:
    """What the daemon writes for people and agents can be shown as it is."""
    patterns = (".agent/prompt.md", ".system/events.jsonl", ".system/attempts/1/command.json")
    written = [path for name in patterns for path in bed.root.glob(f"tasks/*/{name}")]
    assert len(written) == len(patterns) * len(CLAIMED)
    notes = list(bed.root.glob("quarantine/*/reason.txt"))
    assert len(notes) == len(SET_ASIDE)
    for path in (*written, *notes, bed.root / "logs" / "daemon.jsonl"):
        assert not STEERING.search(path.read_text(encoding="utf-8")), path
    assert not STEERING.search(bed.git("log", "--format=%B", "main"))


def check_backup(bed: Bed, before: dict[bytes, Picture]) -> None:
    """Names, bytes and links come back; what is neither, or has no end, is told."""
    file, new = bed.root.parent / "backup.tar.gz", bed.root.parent / "new"
    said = say(bed, "backup", str(file))
    assert said.count("not saved: ") == len(SET_ASIDE)
    assert "restored" in say(bed, "restore", str(file), str(new))
    for task in os.listdir(bed.root / "tasks"):
        here, there = (picture(each / "tasks" / task / "input") for each in (bed.root, new))
        assert here.keys() == there.keys()
        for path, facts in here.items():
            assert there[path].content == facts.content
    for entry in bed.json("quarantine", "list"):
        assert "back in the inbox" in say(bed, "quarantine", "release", entry["name"])
    for name in SET_ASIDE:
        assert picture(bed.inbox / os.fsdecode(name)) == before[name]


def test_what_is_printed_for_people_and_scripts_cannot_steer_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = os.fsdecode(HOSTILE) + "\U000e0001 é\n"
    print_json({"text": text})
    printed = capsys.readouterr().out
    assert not STEERING.search(printed)
    assert json.loads(printed) == {"text": text}
    assert not STEERING.search(printable(text))
