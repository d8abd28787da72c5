"""`log` prints files of any size, in little memory."""

import io
import tracemalloc
from pathlib import Path

import anyio
import pytest

from alluvium_like.lifecycle import State
from alluvium_like.store.writer import Store
from alluvium_like.surface.follow import follow_log, print_log
from alluvium_like.workspace import Workspace


async def _fill(space: Workspace) -> None:
    store = await Store.open(space.database)
    try:
        await store.write("create_task", id="t", name="t", priority=0, input_seal="")
        async with store.transaction("tested") as tx:
            await tx.start_attempt(await tx.get("t"), "default")
        await store.transition("t", expect=State.RUNNING, to=State.FAILED)
    finally:
        await store.close()


@pytest.fixture
def output(tmp_path: Path) -> tuple[Workspace, Path]:
    space = Workspace.at(tmp_path / "ws")
    space.root.mkdir()
    space.make_folders()
    anyio.run(_fill, space)
    folder = space.task("t").attempt(1)
    folder.mkdir(parents=True)
    return space, folder / "stdout.log"


class _Counting(io.StringIO):
    """Counts what is written, and forgets it."""

    size = 0

    def write(self, text: str) -> int:
        self.size += len(text)
        return len(text)


@pytest.mark.parametrize("show", [print_log, follow_log])
def test_a_large_log_is_not_held_in_memory(output: tuple[Workspace, Path], show: object) -> None:
    assert callable(show)
    space, path = output
    path.write_bytes(b"0123456789abcde\n" * (1 << 18))
    out = _Counting()
    tracemalloc.start()
    try:
        show(space, "t", out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert out.size == path.stat().st_size + len(f"==> {path.relative_to(space.root)} <==\n")
    assert peak < path.stat().st_size / 2


def test_characters_are_whole_wherever_the_pieces_end(output: tuple[Workspace, Path]) -> None:
    space, path = output
    text = "x" + "ä€🎉" * 50_000
    path.write_text(text + "\x1b\n")
    (path.parent / "stderr.log").write_text("bad\n")
    out = io.StringIO()
    print_log(space, "t", out)
    first, second = (
        f"==> {p.relative_to(space.root)} <==\n" for p in (path, path.parent / "stderr.log")
    )
    assert out.getvalue() == f"{first}{text}�\n{second}bad\n"
