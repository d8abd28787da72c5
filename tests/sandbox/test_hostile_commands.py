"""What agents committed runs as tests and in set-ups: in a box it comes to nothing there either."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hostile_scene import HostileScene

from alluvium_like.sandbox.bubblewrap import find_problem

CONFIG = """
[setup]
run = ["sh prepare.sh"]
[integration]
run_tests = ["sh check.sh"]
"""
# Without a box nobody is touched but the victim and the daemon.
SCRIPT = """
cat > {name}.sh <<END
connect() {{ "$PY" -c 'import socket,sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3)' "\\$1"; }}
unix() {{ "$PY" -c 'import socket,sys
socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "\\$1"; }}
cd "$PLACE" 2> /dev/null; cd - > /dev/null
if [ -d /proc/$VICTIM ]; then who="$VICTIM $DAEMON"; else who="\\$(ls /proc | grep '^[0-9]')"; fi
for p in \\$who; do cat "/proc/\\$p/environ"; done
cat "$REAL/.ssh/id_x" "$ROOT"/.alluvium/alluvium.db* "$ROOT/config.toml" "$ROOT/repo/.env"
cat "$ROOT"/tasks/*/input/neighbour "$TEMPORARY"
echo evil >> "$REAL/.evilrc-{name}"
touch "$ROOT/.alluvium/integration.git/objects/evil-{name}" "$ROOT/inbox/evil-{name}"
connect {port}
unix {socket}
kill -{signal} $VICTIM
(setsid setsid tail -f "\\$PWD/{name}.sh" > /dev/null 2>&1 &)
exit 0
END
"""
SECRETS = ("ssh", "store", "config", "owner", "environment", "input", "temporary")
DOORS = ("console", "proxied", "docker.sock", "ssh-agent.sock")
EVIL = ("{home}/.evilrc-%s", "{root}/.alluvium/integration.git/objects/evil-%s")


def play(scene: HostileScene) -> dict[str, list[str]]:
    """Land scripts of an agent's, let them run, and return by script what they came to."""
    bed, kept = scene.bed, scene.secrets
    for name in ("check", "prepare"):
        bed.commit({f"{name}.sh": "exit 0\n"})
    scene._set_agent("")
    bed.drop("bait", f'echo {kept["store"]} > "$A/needs_human.md"')
    bed.wait_for("bait", "needs_human")
    bed.drop("neighbour", f"# {kept['input']}")
    bed.wait_for("neighbour", "done")
    parts = (("check", "$CONSOLE", "docker"), ("prepare", "$PROXIED", "ssh-agent"))
    scripts = [
        SCRIPT.format(name=name, port=port, socket=f"$PLACE/{door}.sock", signal="USR1")
        for name, port, door in parts
    ]
    bed.drop("writes scripts", "\n".join((*scripts, "work")))
    assert bed.wait_for("writes scripts", "done", "needs_human")["outcome"] == "merged"
    bed.drop("later", "work")
    assert bed.wait_for("later", "done", "needs_human")["outcome"] == "merged"
    logs = [
        *(bed.root / "logs" / "tests").iterdir(),
        *bed.root.glob("tasks/*/.system/**/setup.log"),
    ]
    found: dict[str, list[str]] = {"check": [], "prepare": []}
    for path in logs:
        text = path.read_bytes()
        told = [kind for kind in SECRETS if kept[kind].encode() in text]
        found["prepare" if path.name == "setup.log" else "check"] += told
    for (name, _, door), place in zip(parts, ("console", "proxied"), strict=True):
        found[name] += [each for each in (door, place) if scene.reached(each)]
        found[name] += [each for each in EVIL if scene.there(each % name)]
        found[name] += ["task"] * scene.there(f"{{root}}/tasks/*evil-{name}*")
    return {name: sorted(set(each)) for name, each in found.items()}


def left_running(scene: HostileScene) -> list[int]:
    """Return what of the scripts still runs; it is known by its command line."""
    root, found = os.fsencode(scene.place), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (folder / "cmdline").read_bytes()
            if line.startswith(b"tail") and root in line:
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            "bubblewrap",
            marks=pytest.mark.skipif(bool(find_problem()), reason="needs bubblewrap"),
        ),
        "none",
    ],
)
def test_tests_and_set_ups_of_an_agent_come_to_something_without_a_box_alone(
    tmp_path: Path, mode: str
) -> None:
    with HostileScene(tmp_path, mode, CONFIG).opened() as scene:
        found = play(scene)
        # A set-up of a tree that is kept ready may run just now.
        scene.bed.wait(lambda: left_running(scene) == [], "nothing is left")
        assert scene.reached("signal") == (mode == "none")
        everything = {
            "check": sorted({*SECRETS, "docker", "console", *EVIL, "task"}),
            "prepare": sorted({*SECRETS, "ssh-agent", "proxied", *EVIL, "task"}),
        }
        nothing: dict[str, list[str]] = {"check": [], "prepare": []}
        assert found == (everything if mode == "none" else nothing)
