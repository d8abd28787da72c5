"""The short way to `status` and `list`: the parser's own answers, without the parser."""

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import typer
from typer.testing import CliRunner

from alluvium_like.cli import daemon, tasks
from alluvium_like.cli.common import choose_workspace
from alluvium_like.cli.look import try_look
from alluvium_like.errors import WorkspaceError
from alluvium_like.lifecycle import Outcome, State
from alluvium_like.store.writer import Store
from alluvium_like.workspace import Workspace

LOOK = "import sys; from alluvium_like.cli.look import try_look; assert try_look(sys.argv[1:])"


async def _fill(space: Workspace) -> None:
    store = await Store.open(space.database)
    try:
        await store.set_meta("ignored_names", '[["."], [".tmp"]]')
        for name in ("first", "second", "third"):
            await store.write("create_task", id=name, name=name, priority=0, input_seal="")
        for name in ("first", "second"):
            await store.transition(name, expect=State.QUEUED, to=State.RUNNING)
            await store.transition(
                name, expect=State.RUNNING, to=State.DONE, outcome=Outcome.NOOP, reason="\x1bno"
            )
    finally:
        await store.close()


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    found = Workspace.at(tmp_path / "ws")
    found.root.mkdir()
    found.make_folders()
    anyio.run(_fill, found)
    return found


def by_parser(space: Workspace, *words: str) -> str:
    app = typer.Typer()
    daemon.register(app)
    tasks.register(app)
    choose_workspace(space.root)
    try:
        done = CliRunner().invoke(app, words)
    finally:
        choose_workspace(None)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "--json"],
        ["list"],
        ["list", "--json"],
        ["list", "--state", "done"],
        ["list", "--state", "failed"],
        ["list", "--limit", "1"],
        ["list", "--limit", "1", "--state", "done"],
        ["list", "--json", "--limit", "0", "--state", "queued"],
    ],
)
def test_the_short_way_says_what_the_parser_says(
    space: Workspace, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert try_look(["-C", str(space.root), *words])
    said = capsys.readouterr().out
    assert said == by_parser(space, *words)
    assert said


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-C"],
        ["-C", "list"],
        ["--help"],
        ["show", "x"],
        ["status", "--help"],
        ["status", "--state", "done"],
        ["status", "more"],
        ["list", "--state"],
        ["list", "--state", "gone"],
        ["list", "--state=done"],
        ["list", "--limit", "-1"],
        ["list", "--limit", "\N{SUPERSCRIPT TWO}"],
        ["list", "--limit"],
        ["list", "-h"],
        ["-C", "/nowhere/at/all", "list"],
    ],
)
def test_everything_else_is_left_to_the_parser(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert not try_look(words)
    assert capsys.readouterr().out == ""


def test_a_link_that_leads_to_itself_is_left_to_the_parser(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert not try_look(["-C", str(tmp_path / "loop"), "status"])


def test_a_folder_that_is_no_workspace_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="not a workspace"):
        try_look(["-C", str(tmp_path), "list"])


def test_a_list_says_what_it_leaves_out(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert try_look(["-C", str(space.root), "list", "--limit", "1"])
    note, *rows = capsys.readouterr().out.splitlines()
    assert note == "(1 older ones that have ended are left out; --limit 0 shows all)"
    assert rows == ["second  done/noop  �no", "third  queued"]
    assert try_look(["-C", str(space.root), "list", "--limit", "2"])
    assert capsys.readouterr().out.splitlines()[0] == "first  done/noop  �no"
    assert try_look(["-C", str(space.root), "list", "--json", "--limit", "1"])
    assert [task["id"] for task in json.loads(capsys.readouterr().out)] == ["second", "third"]


@pytest.mark.parametrize("command", ["status", "list"])
def test_the_short_way_starts_neither_the_parser_nor_the_configuration(
    space: Workspace, command: str
) -> None:
    argv = [sys.executable, "-X", "importtime", "-c", LOOK, "-C", str(space.root), command]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sqlite3" in imported
    assert imported.isdisjoint({"typer", "click", "pydantic", "anyio", "asyncio", "rich"})
