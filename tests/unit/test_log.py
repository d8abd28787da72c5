"""What the log says of an error: the reason where it was foreseen, else the traceback too."""

import errno
import json
from pathlib import Path

import pytest

from alluvium_like.errors import GitFailed, StoreUnavailable
from alluvium_like.log import get_logger, logging_to

ENOSPC = "No space left on device"
FORESEEN: dict[str, tuple[Exception, str]] = {
    "system": (OSError(errno.ENOSPC, ENOSPC, "/w/a"), f"{ENOSPC}: /w/a"),
    "two paths": (OSError(errno.EXDEV, "Far", "/a", None, b"/b\xff"), "Far: /a -> /b\udcff"),
    "descriptor": (OSError(errno.ENOSPC, ENOSPC, 7), ENOSPC),
    "no errno": (OSError("gone"), "gone"),
    "git": (
        GitFailed(["gc"], 1, "hint: x\nfatal: no room\n"),
        "git gc failed with 1: fatal: no room",
    ),
    "store": (StoreUnavailable("it is\nlocked"), "it is locked"),
    "several": (
        ExceptionGroup("of a group", [OSError("one"), OSError("two"), OSError("one")]),
        "one; two",
    ),
}
UNFORESEEN = {
    "bug": ValueError("a bug"),
    "bug among them": ExceptionGroup("of a group", [OSError("gone"), ValueError("a bug")]),
}


def logged(path: Path, error: Exception) -> dict[str, str]:
    with logging_to(path, console=False):
        try:
            raise error
        except Exception:  # noqa: BLE001 - whatever it is, the log is to tell it
            get_logger(__name__).exception("failed")
    (line,) = path.read_text().splitlines()
    told: dict[str, str] = json.loads(line)
    assert (told["event"], told["level"]) == ("failed", "error")
    return told


@pytest.mark.parametrize("name", FORESEEN)
def test_an_error_that_was_foreseen_is_told_by_its_reason_alone(tmp_path: Path, name: str) -> None:
    error, reason = FORESEEN[name]
    told = logged(tmp_path / "log", error)
    assert told["error"] == reason
    assert "exception" not in told


@pytest.mark.parametrize("name", UNFORESEEN)
def test_an_error_that_nobody_foresaw_keeps_its_traceback(tmp_path: Path, name: str) -> None:
    told = logged(tmp_path / "log", UNFORESEEN[name])
    assert "error" not in told
    assert "Traceback" in told["exception"]
    assert "a bug" in told["exception"]
