"""The soak for some seconds: everything at once, and then all comes to its end.

For longer: `contrib/faults/soak.py --minutes N`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "contrib" / "faults" / "soak.py"
MINUTES = 0.25
PATIENCE_SECONDS = 280.0  # of which the drain may take 180


@pytest.mark.timeout(PATIENCE_SECONDS + 10)
@pytest.mark.skipif(sys.platform != "linux", reason="it freezes and kills by what /proc tells")
def test_some_seconds_of_everything_lose_nothing(tmp_path: Path) -> None:
    options = ("--minutes", str(MINUTES), "--seed", "5", "--folder", str(tmp_path))
    done = subprocess.run(
        [sys.executable, str(SOAK), *options],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["violations"] == []
    assert found["events"]["kill of the daemon"] >= 1
    assert found["ends"].get("done merged", 0) >= 1
    assert list(tmp_path.iterdir()) == [], "the soak leaves nothing behind"
