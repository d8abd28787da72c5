import os
import plistlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alluvium_like.config import Config
from alluvium_like.surface.definition import Kind, Service, definition, example, runs_workspace

SOURCE = Path(__file__).parents[2]
PLAIN = Service("w", "/srv/w", ("/usr/bin/python3", "-P"), "/usr/local/bin:/usr/bin:/bin", 10)
ODD = [
    "/srv/with space",
    "/srv/100%h",
    "/srv/\"quoted\" and 'so'",
    "/srv/back\\x41slash\\",
    "/srv/$HOME ${HOME} $$",
    "/srv/ünï <&> 日本",
]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Kind.SYSTEMD, "systemd/alluvium-like.service"),
        (Kind.LAUNCHD, "contrib/alluvium-like.plist"),
    ],
)
def test_the_examples_in_the_source_tree_are_what_the_template_gives(kind: Kind, path: str) -> None:
    wanted = f"run: python -m alluvium_like.surface.definition {kind} > {path}"
    assert (SOURCE / path).read_text() == example(kind), wanted


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_the_unit_makes_the_promises_of_a_service() -> None:
    unit = settings(definition(PLAIN, Kind.SYSTEMD))
    assert unit["ExecStart"] == [":/usr/bin/python3 -P -C /srv/w serve"]
    assert unit["ExecReload"] == [":/usr/bin/python3 -P -C /srv/w reload"]
    assert (unit["Type"], unit["NotifyAccess"]) == (["notify"], ["main"])
    assert (unit["KillMode"], unit["Restart"]) == (["mixed"], ["on-failure"])
    assert "PATH=/usr/local/bin:/usr/bin:/bin" in unit["Environment"]
    assert unit["WatchdogSec"] == ["2min"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert unit["WantedBy"] == ["default.target"]


def test_every_choice_of_the_service_has_its_comment() -> None:
    _, _, section = definition(PLAIN, Kind.SYSTEMD).partition("[Service]\n")
    pairs = {"NotifyAccess": "Type", "RestartSec": "Restart"}  # one comment speaks of both
    lines = section.partition("\n[Install]")[0].splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        key = line.partition("=")[0]
        if line and not line.startswith("#"):
            assert above.startswith(("#", f"{pairs.get(key)}=")), line


@pytest.mark.parametrize("grace", [0, 0.5, 10, 300])
def test_a_stop_is_never_cut_off_by_the_supervisor(grace: float) -> None:
    service = replace(PLAIN, grace_seconds=grace)
    enforced_by_the_daemon = grace + 5
    assert int(settings(definition(service, Kind.SYSTEMD))["TimeoutStopSec"][0]) >= (
        enforced_by_the_daemon + 10
    )
    plist = plistlib.loads(definition(service, Kind.LAUNCHD).encode())
    assert plist["ExitTimeOut"] >= enforced_by_the_daemon + 10


def test_the_examples_allow_the_default_grace() -> None:
    seconds = Config().safety.shutdown_grace_seconds
    assert int(settings(example(Kind.SYSTEMD))["TimeoutStopSec"][0]) >= seconds + 15


@pytest.mark.parametrize("path", ODD)
def test_a_property_list_gives_back_the_paths_as_they_are(path: str) -> None:
    service = replace(PLAIN, workspace=path, search_path=f"{path}/bin:/bin")
    plist = plistlib.loads(definition(service, Kind.LAUNCHD).encode())
    assert plist["ProgramArguments"] == ["/usr/bin/python3", "-P", "-C", path, "serve"]
    assert plist["EnvironmentVariables"]["PATH"] == f"{path}/bin:/bin"
    assert plist["StandardErrorPath"] == f"{path}/logs/service.log"
    assert (plist["RunAtLoad"], plist["KeepAlive"]) == (True, {"SuccessfulExit": False})


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("path", ODD)
def test_a_definition_is_known_by_its_workspace(kind: Kind, path: str) -> None:
    service = replace(PLAIN, workspace=path)
    text = definition(service, kind)
    moved = replace(service, program=("/elsewhere/python",), search_path="/bin")
    assert runs_workspace(text, moved, kind)
    assert not runs_workspace(text, replace(service, workspace=f"{path}2"), kind)
    assert not runs_workspace(text, replace(service, workspace="/srv"), kind)


@pytest.mark.parametrize("text", ["", "junk", "<plist>", '<plist version="1.0"><array/></plist>'])
@pytest.mark.parametrize("kind", Kind)
def test_what_is_no_definition_runs_no_workspace(kind: Kind, text: str) -> None:
    assert not runs_workspace(text, PLAIN, kind)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", ["/srv/w", *ODD])
def test_systemd_finds_nothing_wrong_with_the_unit(path: str, tmp_path: Path) -> None:
    program = (sys.executable, "-P", "-m", "alluvium_like")
    service = replace(PLAIN, workspace=path, program=program, search_path=f"{path}/bin:/bin")
    unit = tmp_path / f"{service.label}.service"
    unit.write_text(definition(service, Kind.SYSTEMD))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--recursive-errors=yes", "--man=no", unit],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
