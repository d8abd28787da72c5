"""One agent prints so many gigabytes: is its log capped, does the run go on, and how fast.

    python contrib/faults/output_flood.py [GIGABYTES]

Ten where none are given. Its figures go to stdout as JSON; the exit code is 1 where a promise is
broken. It works in a scratch folder and ends the daemon that it began.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "scenario"))
from bed import COMMIT, Bed

LIMIT = 10_000_000
AGENT = "head -c {bytes} /dev/zero\n{commit}"


def main() -> int:
    """Run once, and tell."""
    size = int(float(sys.argv[1] if len(sys.argv) > 1 else 10) * 1e9)
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(Path(folder) / "ws")
        bed.make(AGENT.format(bytes=size, commit=COMMIT))
        bed.start()
        try:
            figures = flood(bed, size)
        finally:
            bed.stop()
    print(json.dumps(figures, indent=2))
    return 0 if figures["capped"] and figures["landed"] else 1


def flood(bed: Bed, size: int) -> dict[str, object]:
    """Let one agent print, and return what came of it."""
    bed.drop("flood")
    bed.wait(lambda: any(bed.root.glob("tasks/*/.system/attempts/1/stdout.log")), "it runs")
    begun = time.monotonic()
    log = bed.folder("flood") / ".system" / "attempts" / "1" / "stdout.log"
    while bed.task("flood")["state"] == "running":
        time.sleep(0.5)
    seconds = time.monotonic() - begun
    bed.wait_until_idle()
    kept = log.stat().st_size  # only ever appended to: it was never more
    return {
        "bytes": size,
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(size / seconds / 1e6),
        "kept_on_disk": kept,
        "capped": LIMIT < kept < LIMIT + 200,
        "landed": bed.task("flood")["outcome"] == "merged",
    }


if __name__ == "__main__":
    sys.exit(main())
