"""The unpacked source of a well-known package, its own test suite, and four dropped patches."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from bed import Bed

PACKAGE = "click==8.1.8"
TESTS = (
    f"TMPDIR=$(mktemp -d) PYTHONPATH=src {sys.executable} -m pytest -q -p no:cacheprovider "
    "-p no:asyncio -o filterwarnings=default"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps"),
            *("--no-binary", ":all:", "-d", str(folder), PACKAGE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"{PACKAGE} cannot be downloaded: {done.stderr.strip()[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = [path for path in folder.iterdir() if path.is_dir()]
    return unpacked


def test_two_patches_land_one_comes_back_and_one_asks(bed: Bed, source: Path) -> None:
    repo = bed.root.parent / "click"
    source.rename(repo)
    bed.git("init", "-q", "-b", "main", cwd=repo)
    bed.git("add", "-A", cwd=repo)
    bed.git("commit", "-q", "-m", "click as released", cwd=repo)
    utils = repo / "src/click/utils.py"
    original = utils.read_text()

    def diff_of(new: str) -> str:
        utils.write_text(new)
        text = bed.git("diff", cwd=repo) + "\n"
        utils.write_text(original)
        return text

    works = diff_of(original.replace("Converts a value into a valid string.", "Make a string."))
    breaks = diff_of(original.replace("    return str(value)\n", "    return repr(value)\n", 1))
    stale = works.replace("Converts a value into a valid string.", "Text of an older release.")
    (repo / "src/click/extra.py").write_text('"""An addition."""\n\nANSWER = 42\n')
    (repo / "tests/test_extra.py").write_text(
        "from click.extra import ANSWER\n\n\ndef test_answer():\n    assert ANSWER == 42\n"
    )
    bed.git("add", "-A", cwd=repo)
    bed.git("commit", "-q", "-m", "Add an answer", "--author", "Ada <ada@example.org>", cwd=repo)
    mail = bed.git("format-patch", "-1", "--stdout", cwd=repo) + "\n"
    bed.git("reset", "-q", "--hard", "HEAD~1", cwd=repo)

    bed.cli("init", str(bed.root), "--repo", str(repo))
    (bed.root / "config.toml").write_text(
        f"[repo]\npath = '{repo}'\n[safety]\ninbox_settle_seconds = 0\n"
        f"[sandbox]\nreadable = ['{sys.prefix}']\n"
        f"[[integration.run_tests]]\nname = 'suite'\ncommand = '''{TESTS}'''\n"
    )
    bed.start()
    for name, text in (
        ("1-works.patch", works),
        ("2-mail.patch", mail),
        ("3-breaks.patch", breaks),
        ("4-stale.patch", stale),
    ):
        bed.drop(name, text)
    bed.wait_until_idle()

    assert bed.task("1-works.patch")["outcome"] == "merged"
    assert bed.task("2-mail.patch")["outcome"] == "merged"
    broken = bed.task("3-breaks.patch")
    assert broken["revision_round"] == 1
    request = Path(broken["folder"], ".agent", "revision_request.md").read_text()
    assert "FAILED tests/" in request
    asking = bed.task("4-stale.patch")
    assert asking["state"] == "needs_human"
    assert "4-stale.patch" in asking["checkpoints"][0]["question"]
    assert len(bed.git("log", "--format=%h", "main", cwd=repo).split()) == 3
    authors = bed.git("log", "--format=%an", "main", cwd=repo).split("\n")
    assert "Ada" in authors, "a mail keeps its author"
    assert "Add an answer" in bed.git("log", "--format=%s", "main", cwd=repo)
