"""Count the git processes that the daemon starts for each task of a batch.

    python contrib/bench/count_git.py [--tasks N] [--folder PATH]

A `git` that writes down its subcommand and then becomes the real one lies first on the daemon's
PATH; the agent's PATH is without it. What git itself starts (upload-pack, unpack-objects) does not
count: git looks for it in its own folder. The table goes to stderr, one JSON document to stdout.
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from beds import Bench, expect
from swarms import COMMITS, Daemon

TASKS = 40
SHIM = """\
#!/bin/sh
skip=
for word do
    if [ -n "$skip" ]; then skip=; continue; fi
    case $word in
        -c|-C) skip=yes ;;
        -*) ;;
        *) break ;;
    esac
done
printf '%s\\n' "$word" >> {log}
exec {git} "$@"
"""


def measure(folder: Path, tasks: int = TASKS) -> dict[str, object]:
    """Run one batch below `folder` and return the processes per task, all and by subcommand."""
    real = shutil.which("git")
    expect(real is not None, "git is installed")
    log, shims = folder / "git.log", folder / "shims"
    shims.mkdir(parents=True)
    shim = shims / "git"
    shim.write_text(SHIM.format(log=shlex.quote(str(log)), git=shlex.quote(str(real))))
    shim.chmod(0o755)
    bench = Bench(folder / "bench")
    plain = bench.environment["PATH"]
    bench.environment["PATH"] = f"{shims}{os.pathsep}{plain}"
    running = Daemon(bench, f"PATH={shlex.quote(plain)}\nexport PATH\n{COMMITS}")
    try:
        log.write_text("")
        running.drop(tasks)
        running.wait(tasks)
    finally:
        running.cli("stop")
    started = Counter(log.read_text().split())
    expect(bench.landed() == tasks, "every task landed as one commit")
    return {
        "tasks": tasks,
        "per_task": round(started.total() / tasks, 2),
        "by_subcommand": {name: round(n / tasks, 2) for name, n in started.most_common()},
    }


def main() -> None:
    """Read the options, count in a scratch folder, print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--tasks", type=int, default=TASKS, help="tasks in the batch")
    options.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="alluvium-count-", dir=given.folder) as folder:
        found = measure(Path(folder), given.tasks)
    rows = {"all": found["per_task"], **found["by_subcommand"]}  # type: ignore[dict-item]
    for name, count in rows.items():
        print(f"{name:<16} {count:>6}", file=sys.stderr)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
