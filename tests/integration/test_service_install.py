import os
import plistlib
import subprocess
import sys
from pathlib import Path

import pytest

from alluvium_like.errors import ConfigError, UsageError, WorkspaceError
from alluvium_like.lock import workspace_lock
from alluvium_like.surface.definition import Kind, Service, definition
from alluvium_like.surface.service import (
    install,
    kind_of_this_system,
    next_steps,
    service_of,
    where_variables_go,
)
from alluvium_like.workspace import Workspace

UNITS = Path(".config/systemd/user")


def made(root: Path, config: str = "") -> Workspace:
    workspace = Workspace.at(root)
    workspace.make_folders()
    workspace.config_file.write_text(config)
    return workspace


def service_at(root: Path) -> Service:
    return service_of(made(root))


def test_the_service_is_of_this_workspace_python_path_and_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/opt/tools/bin:relative::/usr/bin:/with\nnewline")
    workspace = made(
        tmp_path / "w",
        '[safety]\nshutdown_grace_seconds = 90.5\n[agent]\nenv = ["OPENAI_API_KEY"]\n'
        '[setup]\nenv = ["NPM_TOKEN"]\n',
    )
    service = service_of(workspace)
    assert service.workspace == str(workspace.root)
    assert service.program[0] == sys.executable
    assert service.search_path == "/opt/tools/bin:/usr/bin"
    assert service.grace_seconds == 90.5
    assert service.stop_seconds > 91 + 5
    for kind in Kind:
        assert "passes on OPENAI_API_KEY, NPM_TOKEN," in where_variables_go(service, kind)


def test_without_variables_nothing_is_said_of_them(tmp_path: Path) -> None:
    assert where_variables_go(service_at(tmp_path / "w"), Kind.SYSTEMD) == ""


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("inbox", "inbox"),
        ("Zoë's work @50%", "Zoe-s-work-50"),
        ("日本", "workspace"),
        (".hidden", "hidden"),
        ("a" * 200, "a" * 100),
    ],
)
def test_the_name_comes_from_the_folder_and_suits_a_unit(
    tmp_path: Path, folder: str, name: str
) -> None:
    assert service_at(tmp_path / folder).name == name


@pytest.mark.parametrize("name", ["", "a b", "../x", "a@b", "-a", "a/b", "ü", "a" * 101])
def test_a_name_that_is_none_is_a_wrong_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits"):
        service_of(made(tmp_path / "w"), name)


@pytest.mark.parametrize("folder", [b"two\nlines", b"tab\there", b"latin-\xe4"])
def test_a_path_that_no_definition_can_hold_is_refused(tmp_path: Path, folder: bytes) -> None:
    with pytest.raises(WorkspaceError, match="move it"):
        service_at(tmp_path / os.fsdecode(folder))


def test_a_broken_configuration_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shutdown_grace_seconds"):
        service_of(made(tmp_path / "w", "[safety]\nshutdown_grace_seconds = -1\n"))


@pytest.mark.parametrize("kind", Kind)
def test_installing_again_replaces_our_own_file_and_leaves_nothing_else(
    tmp_path: Path, kind: Kind
) -> None:
    service = service_at(tmp_path / "w")
    path, replaced = install(service, kind, tmp_path / "home")
    assert (path.read_text(), replaced) == (definition(service, kind), False)
    path.write_text(path.read_text().replace("/usr/bin", "/usr/old"))
    assert install(service, kind, tmp_path / "home") == (path, True)
    assert path.read_text() == definition(service, kind)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", Kind)
def test_the_service_of_another_workspace_with_the_same_name_is_left_alone(
    tmp_path: Path, kind: Kind
) -> None:
    first, _ = install(service_at(tmp_path / "a/w"), kind, tmp_path / "home")
    before = first.read_bytes()
    other = made(tmp_path / "b/w")
    with pytest.raises(WorkspaceError, match="--name"):
        install(service_of(other), kind, tmp_path / "home")
    assert first.read_bytes() == before
    second, _ = install(service_of(other, "second"), kind, tmp_path / "home")
    assert second.stem == "alluvium-like-second"


def test_what_is_not_ours_is_left_alone_whatever_it_is(tmp_path: Path) -> None:
    service = service_at(tmp_path / "w")
    path = tmp_path / "home" / UNITS / "alluvium-like-w.service"
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/null")  # as 'systemctl --user mask' leaves it
    with pytest.raises(WorkspaceError):
        install(service, Kind.SYSTEMD, tmp_path / "home")
    assert path.is_symlink()
    path.unlink()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(WorkspaceError):
        install(service, Kind.SYSTEMD, tmp_path / "home")
    assert path.read_bytes() == b"\xff\xfe"


def test_the_next_steps_end_a_daemon_that_runs_already(tmp_path: Path) -> None:
    workspace = made(tmp_path / "my w")
    service = service_of(workspace)
    path = tmp_path / "alluvium-like-my-w.plist"
    systemd = next_steps(service, Kind.SYSTEMD, path)
    assert systemd[0] == "systemctl --user daemon-reload"
    assert systemd[1] == "systemctl --user enable --now alluvium-like-my-w.service"
    assert systemd[2].startswith("loginctl enable-linger")
    assert next_steps(service, Kind.LAUNCHD, path)[-1].endswith(f"bootstrap gui/$(id -u) {path}")
    with workspace_lock(workspace):
        for kind in Kind:
            steps = next_steps(service, kind, path)
            assert steps[0] == f"alluvium-like -C '{workspace.root}' stop"


def run(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alluvium_like", "-C", root, "service", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(root.parent / "home")},
    )
    assert done.stderr == ""
    return done.stdout


def test_the_commands_print_and_install_the_same_text(tmp_path: Path) -> None:
    root = made(tmp_path / "w").root
    said = run(root, "install", "--kind", "systemd")
    unit = tmp_path / "home" / UNITS / "alluvium-like-w.service"
    assert said.startswith(f"written: {unit}\nNext:\n")
    assert "systemctl --user daemon-reload" in said
    assert run(root, "print", "--kind", "systemd") == unit.read_text()
    plist = run(root, "print", "--kind", "launchd", "--name", "x")
    assert plistlib.loads(plist.encode())["Label"] == "alluvium-like-x"


def test_without_a_kind_it_is_that_of_this_system() -> None:
    wanted = Kind.LAUNCHD if sys.platform == "darwin" else Kind.SYSTEMD
    assert kind_of_this_system() is wanted
