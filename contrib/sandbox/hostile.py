"""Let hostile agents loose without a box and in one, and write down which deeds succeed.

    python contrib/sandbox/hostile.py [--only DEED]…

Writes results/hostile.md beside it. The deeds go for a workspace, a home, processes and servers
that are made for them in a scratch folder; tests/sandbox/hostile.py has them.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLE = HERE / "results" / "hostile.md"
for shared in ("sandbox", "scenario", "faults"):
    sys.path.insert(0, str(ROOT / "tests" / shared))

from hostile import Deed  # noqa: E402
from hostile_more import DEEDS  # noqa: E402
from hostile_scene import HostileScene  # noqa: E402

from alluvium_like.sandbox.cgroup import enforced  # noqa: E402

HEAD = """# Hostile agents, without a box and in one

Written by `python contrib/sandbox/hostile.py`{who}. Each line is a script that an agent runs, and
whether it came to what it is after, as seen from outside.
[tests/sandbox](../../../tests/sandbox) runs them all in a box with every change.

"""


def play(mode: str, deeds: Mapping[str, Deed]) -> dict[str, bool]:
    """Let deeds be done in one mode; return which succeeded."""
    with (
        tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as folder,
        HostileScene(Path(folder), mode).opened() as scene,
    ):
        return scene.play(deeds)


def rows(deeds: Mapping[str, Deed], without: Mapping[str, bool], boxed: Mapping[str, bool]) -> str:
    """Return the table."""
    lines = ["| after | deed | without a box | in the box |", "|---|---|---|---|"]
    for name, deed in deeds.items():
        open_ = "**succeeds**" if without[name] else f"fails: {deed.open or 'not seen here'}"
        lines.append(
            f"| {deed.after} | {name} | {open_} | {'**SUCCEEDS**' if boxed[name] else 'fails'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run both, write the table, and fail where a deed succeeds in the box."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(DEEDS))
    given = parser.parse_args()
    deeds = {name: deed for name, deed in DEEDS.items() if name in (given.only or DEEDS)}
    without, boxed = play("none", deeds), play("bubblewrap", deeds)
    who = ", as root" if os.geteuid() == 0 else ""
    kept = f"\nIn the box memory is kept for {enforced()['memory']}.\n"
    counts = (
        f"\n{sum(without.values())} of {len(deeds)} succeed without a box, "
        f"{sum(boxed.values())} in it.\n"
    )
    text = HEAD.format(who=who) + rows(deeds, without, boxed) + counts + kept
    print(text)
    if not given.only:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
    odd = [name for name in deeds if without[name] == bool(deeds[name].open)]
    print("\n".join(f"not as it is said to be without a box: {name}" for name in odd))
    return 1 if any(boxed.values()) or odd else 0


if __name__ == "__main__":
    sys.exit(main())
