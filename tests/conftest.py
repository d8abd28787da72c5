"""What all tests share: a workspace, and signals as a terminal has them."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import Bed

# In the background both are ignored, and so they would be by all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def bed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """A workspace that is not made yet; its daemon is stopped at the end.

    Of a test that is marked `unboxed` no agent, set-up or test has a box.
    """
    unboxed = request.node.get_closest_marker("unboxed") is not None
    bed = Bed(tmp_path / "ws", unboxed=unboxed)
    yield bed
    if (bed.root / ".alluvium").exists():
        bed.stop()
