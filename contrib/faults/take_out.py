"""Take each protection out once, and see its test fail; and the table of faults with their tests.

    python contrib/faults/take_out.py [--row N]… [--part NAME]… [--jobs N] [--results FOLDER]
    python contrib/faults/take_out.py --table

Works on a copy of this checkout with an environment of its own. A test counts as proof when it
passes on the copy as it is and fails on the copy without the protection. Exits 1 where one does
not, or where a fault has no test. See README.md.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPIED = ("alluvium_like", "tests", "contrib", "pyproject.toml", "README.md", "CHANGELOG.md")
ALSO_COPIED = ("ARCHITECTURE.md", "RECOVERY.md", "config.example.toml")
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Protection:
    """What stands against a fault: `old` in `file`, and the test that fails once it is `new`."""

    part: str
    row: int
    fault: str
    test: str
    file: str = ""
    old: str = ""
    new: str = ""


@dataclass(frozen=True)
class Finding:
    """What was seen: `proven`, or why not."""

    protection: Protection
    proven: bool
    seen: str


def read_protections() -> list[Protection]:
    """Return all that are written down in protections/."""
    found = []
    for path in sorted((HERE / "protections").glob("*.toml")):
        entries = tomllib.loads(path.read_text())["protection"]
        found += [Protection(part=path.stem, **entry) for entry in entries]
    return found


def read_faults() -> list[dict[str, str]]:
    """Return the rows of the matrix."""
    faults: list[dict[str, str]] = tomllib.loads((HERE / "matrix.toml").read_text())["fault"]
    return faults


class Copy:
    """A copy of the checkout in which a protection can be taken out."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for name in (*COPIED, *ALSO_COPIED):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, symlinks=True)
            elif source.exists():
                shutil.copy2(source, folder / name)
        venv = folder / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        self.python = venv / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = venv / "lib" / version / "site-packages"
        # The copy comes before what is installed, whose own links to this checkout do not count.
        (packages / "copy.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n")

    def run(self, test: str) -> tuple[int | None, str]:
        """Run one test; returns pytest's exit code, None when it hung, and its last line."""
        argv = [str(self.python), "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-o", "addopts="]
        with tempfile.TemporaryDirectory(prefix="take-out-") as scratch:
            child = subprocess.Popen(
                [*argv, "-p", "no:cacheprovider", f"--basetemp={scratch}/t", test],
                cwd=self.root,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env={**os.environ, "TMPDIR": scratch},
            )
            try:
                out, _ = child.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
                return None, f"did not end within {PATIENCE_SECONDS:g} s"
        lines = [line for line in out.splitlines() if line.strip()]
        why = [line for line in lines if line.startswith("E  ")]
        return child.returncode, (why or lines or ["no output"])[0 if why else -1].strip()


def try_out(copy: Copy, protection: Protection) -> Finding:
    """See the test pass with the protection, and fail without it."""
    if not protection.file:
        code, last = copy.run(protection.test)
        return Finding(protection, code == 0, "passes" if code == 0 else f"fails: {last}")
    path = copy.root / protection.file
    whole = path.read_text()
    if whole.count(protection.old) != 1:
        return Finding(protection, False, f"{whole.count(protection.old)} places match `old`")
    code, last = copy.run(protection.test)
    if code != 0:
        return Finding(protection, False, f"fails with the protection: {last}")
    path.write_text(whole.replace(protection.old, protection.new))
    try:
        code, last = copy.run(protection.test)
    finally:
        path.write_text(whole)
    failed = code in (1, None)
    return Finding(protection, failed, last if failed else f"pytest ended with {code}: {last}")


def try_all(protections: Sequence[Protection], jobs: int) -> list[Finding]:
    """Try them out, as many at once as there are copies."""
    with tempfile.TemporaryDirectory(prefix="take-out-copies-") as folder:
        Path(folder).chmod(0o755)  # some tests become another user
        free: SimpleQueue[Copy] = SimpleQueue()
        for number in range(jobs):
            free.put(Copy(Path(folder) / str(number)))

        def one(protection: Protection) -> Finding:
            copy = free.get()
            try:
                finding = try_out(copy, protection)
            finally:
                free.put(copy)
            mark = "proven" if finding.proven else "NOT PROVEN"
            print(f"{protection.row:>3} {mark}: {protection.test}: {finding.seen}", flush=True)
            return finding

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, protections))


def table(protections: Sequence[Protection]) -> str:
    """Return the matrix in Markdown, each fault with the tests that show its promise."""
    lines = ["| # | fault | promise | tests |", "|---|---|---|---|"]
    for fault in read_faults():
        row = int(fault["row"])
        tests = sorted({p.test for p in protections if p.row == row})
        names = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in tests) or "none"
        lines.append(f"| {row} | {fault['fault']} | {fault['promise']} | {names} |")
    return "\n".join(lines) + "\n"


def matrix(protections: Sequence[Protection]) -> str:
    """Return MATRIX.md: the table with what it is."""
    head = (
        "# Faults, promises, tests\n\nWritten by `python contrib/faults/take_out.py --table`.\n\n"
    )
    return head + table(protections)


def report(findings: Sequence[Finding]) -> str:
    """Return in Markdown what was seen."""
    proven = sum(finding.proven for finding in findings)
    lines = [
        f"# Protections taken out\n\n{proven} of {len(findings)} proven.\n",
        "| # | fault | test | seen without the protection |",
        "|---|---|---|---|",
    ]
    for finding in sorted(findings, key=lambda f: (f.protection.row, f.protection.test)):
        p = finding.protection
        seen = finding.seen.replace("|", "\\|")[:160]
        mark = "" if finding.proven else "**not proven**: "
        lines.append(f"| {p.row} | {p.fault} | `{p.test}` | {mark}`{seen}` |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", type=int, action="append")
    parser.add_argument("--part", action="append")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, help="write protections.md and .json there")
    parser.add_argument("--table", action="store_true", help="write MATRIX.md and end")
    given = parser.parse_args()
    protections = read_protections()
    if given.table:
        (HERE / "MATRIX.md").write_text(matrix(protections))
        return 0
    wanted = [
        p
        for p in protections
        if (not given.row or p.row in given.row) and (not given.part or p.part in given.part)
    ]
    findings = try_all(wanted, given.jobs)
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / "protections.md").write_text(report(findings))
        document = json.dumps([asdict(finding) for finding in findings], indent=1)
        (given.results / "protections.json").write_text(document + "\n")
    weak = [finding for finding in findings if not finding.proven]
    print(f"{len(findings) - len(weak)} of {len(findings)} proven")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
