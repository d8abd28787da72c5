from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import Bed


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """A workspace that is not made yet; its daemon is stopped at the end."""
    bed = Bed(tmp_path / "ws")
    yield bed
    if (bed.root / ".alluvium").exists():
        bed.stop()
