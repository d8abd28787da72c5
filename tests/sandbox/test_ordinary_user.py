"""The box of an ordinary user: it can be made, and a deed of each kind comes to nothing in it.

Where the tests run as root, `nobody` runs this module again, in an environment of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_more import DEEDS
from hostile_scene import OUTLIVES, HostileScene

import alluvium_like
from alluvium_like.deletion import empty
from alluvium_like.sandbox.bubblewrap import find_problem

NOBODY = 65534
ROOT = Path(__file__).parents[2]
KINDS = (
    *("reads the keys of its person", "reads the store", "reads the environment of all processes"),
    *("searches the keys of the session", "connects outside", "speaks to an abstract socket"),
    *("asks the proxy for what is not named", "moves a ref of the daemon", "forks without end"),
    *("writes the objects that it borrows", "signals the daemon", "holds much memory"),
    *("holds memory as files", "leaves a program that runs as its user"),
    "makes namespaces of its own",
    *("has a hook for packing, and includes", "borrows what is private", OUTLIVES),
)
FEW = {name: DEEDS[name] for name in KINDS}


@pytest.mark.skipif(bool(find_problem()), reason="needs bubblewrap: install bubblewrap")
@pytest.mark.skipif(os.geteuid() == 0, reason="is run as nobody, by the test below")
def test_a_deed_of_each_kind_fails(tmp_path: Path) -> None:
    with HostileScene(tmp_path, "bubblewrap").opened() as scene:
        found = scene.play(FEW)
        assert [name for name, succeeded in found.items() if succeeded] == []


def interpreter() -> str:
    """Return one that everybody may run, of our own version; empty where there is none."""
    own, version = Path(sys.executable).resolve(), f"python3.{sys.version_info.minor}"
    if all(path.stat().st_mode & 1 for path in own.parents):
        return str(own)
    return shutil.which(version, path="/usr/bin:/usr/local/bin") or ""


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # which all may enter
    yield folder
    empty(folder, lambda: False)
    folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_the_box_works_for_nobody(place: Path) -> None:
    above = Path(alluvium_like.__file__).resolve().parents
    if not interpreter() or not all(path.stat().st_mode & 1 for path in above):
        pytest.skip("this checkout or its Python lies in a folder that is closed to other users")
    venv = place / "venv"
    subprocess.run([interpreter(), "-m", "venv", "--without-pip", venv], check=True)
    packages = next((venv / "lib").glob("python3*")) / "site-packages"
    installed = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "us.pth").write_text("\n".join([str(ROOT), *installed]))
    os.chown(place, NOBODY, NOBODY)
    test = f"{Path(__file__)}::{test_a_deed_of_each_kind_fails.__name__}"
    options = ("-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-rs")
    done = subprocess.run(
        [venv / "bin" / "python", "-B", "-m", "pytest", *options, f"--basetemp={place}/t", test],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "LANG": "C.UTF-8"},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout, done.stdout
