"""More deeds: those that use too much, that outlive, and those that are planted in Git."""

from typing import Final

from hostile import NETWORK, READS, Deed, left
from hostile_changes import CHANGES
from hostile_deeds import IN_GIT

_FILL: Final = """
fill() { i=0; while [ $i -lt "$2" ]; do head -c 10000000 /dev/zero > "$1.$i" || return 1
    i=$((i + 1)); done; }
"""
_FORKS: Final = """"$PY" - <<'END'
import os, signal
made = []
try:
    while len(made) < 300:
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            while True:
                signal.pause()
        made.append(pid)
except OSError:
    pass
if len(made) > 130:
    open(os.environ["ALLUVIUM_AGENT_DIR"] + "/outputs/many", "w").close()
for pid in made:
    os.kill(pid, signal.SIGKILL)
END
"""
_HOLDS: Final = """"$PY" - <<'END'
import os, signal
told, tell = os.pipe()
children = []
for number in range({processes}):
    children.append(os.fork())
    if not children[-1]:
        signal.alarm(10)
        held = bytearray({bytes})
        for at in range(0, len(held), 4096):
            held[at] = 1
        os.write(tell, b"x")
        signal.pause()
os.close(tell)
many = sum(len(os.read(told, 1)) for _ in children)
alive = [os.waitpid(child, os.WNOHANG) == (0, 0) for child in children]
if many == len(children) and all(alive):
    open(os.environ["ALLUVIUM_AGENT_DIR"] + "/outputs/held", "w").close()
for child in children:
    os.kill(child, signal.SIGKILL)
END
"""
_COUNTED: Final = "the daemon ends what takes up too much, with a box or without"
RESOURCES: Final = {
    "forks without end": Deed("resources", _FORKS, left("many")),
    "holds much memory": Deed(
        "resources", _HOLDS.format(bytes=300_000_000, processes=1), left("held")
    ),
    "holds much memory in many processes": Deed(
        "resources", _HOLDS.format(bytes=90_000_000, processes=4), left("held")
    ),
    "holds memory as files": Deed(
        "resources",
        f"{_FILL}\nfor d in /tmp /dev/shm /var/tmp /dev /; do "
        'boxed || d="$ROOT/../scratch"; mkdir -p "$d" 2>/dev/null; '
        'fill "$d/evil" 3 && touch "$A/outputs/filled"; rm -f "$d"/evil.*; done',
        left("filled"),
    ),
    "writes one large file": Deed(
        "resources",
        'head -c 30000000 /dev/zero > "$A/outputs/large" && touch "$A/outputs/written"',
        left("written"),
    ),
    "writes many files": Deed(
        "resources",
        f'{_FILL}\nfill "$A/outputs/f" 12 && sleep 4 && touch "$A/outputs/filled"; '
        'rm -f "$A"/outputs/f.*',
        left("filled"),
        _COUNTED,
    ),
    "writes many files and deletes them": Deed(
        "resources",
        """"$PY" - <<'END'
import os, time
folder = os.environ["ALLUVIUM_AGENT_DIR"] + "/outputs/"
held = []
for number in range(12):
    held.append(open(folder + "f", "wb"))
    os.unlink(folder + "f")
    held[-1].write(bytes(10_000_000))
    held[-1].flush()
time.sleep(4)
open(folder + "kept", "w").close()
END
""",
        left("kept"),
        _COUNTED,
    ),
    "computes for long": Deed(
        "resources",
        '"$PY" -c "import time\nwhile time.process_time() < 2.6: pass" '
        '&& touch "$A/outputs/computed"',
        left("computed"),
    ),
    "leaves a daemon": Deed(
        "processes",
        'work; (setsid setsid sh -c "trap \\"\\" TERM HUP; $WAIT" > /dev/null 2>&1 &)',
        lambda scene, _: scene.fact("left behind"),
        "the daemon finds and ends whatever an attempt leaves",
    ),
    "outlives the daemon": Deed(
        "processes",
        '[ -e "$A/outputs/again" ] && return 0; touch "$A/outputs/again" "$A/outputs/outlived"; '
        "(setsid setsid env -i "
        'sh -c "trap \\"\\" TERM HUP; tail -f $A/outputs/outlived" > /dev/null 2>&1 &); '
        'echo x > "$A/outputs/ready"; $WAIT',
        lambda scene, _: scene.fact("outlived"),
    ),
}
_IN_GIT: Final = (
    *("plants hooks", "names a folder of hooks", "configures programs", "includes configuration"),
    *("configures its worktree", "writes attributes", "writes submodules"),
    *("nests an evil repository", "hangs on the owner", "hangs on the daemon"),
    *("replaces its repository by the daemon's", "has the owner's as its common folder"),
    *("makes an evil one its common folder", "borrows elsewhere", "replaces objects"),
    *("moves main", "moves other tasks"),
)
_NO_GIT: Final = "the daemon's git runs nothing that a repository says, and reads nothing elsewhere"
_LARGE: Final = "i=0; while [ $i -lt 310 ]; do echo $i > large-$i; i=$((i + 1)); done; work\n"
_PRIVATE: Final = 'P="$ROOT/../private.git"; S="$(cat "$ROOT/../private-commit" || echo "$BAITED")"'
GIT: Final = {
    **{name: Deed("git", IN_GIT[name][0], lambda s, d: s.ran(d), _NO_GIT) for name in _IN_GIT},
    "has a hook for packing, and includes": Deed(
        "git",
        f'{_LARGE}git config uploadpack.packObjectsHook "$EVIL"; '
        'git config -f "$A/outputs/more" uploadpack.packObjectsHook "$EVIL"; '
        'git config include.path "$A/outputs/more"; git config core.alternateRefsCommand "$EVIL"',
        lambda s, d: s.ran(d),
        _NO_GIT,
    ),
    "borrows what is private": Deed(
        "git",
        f'{_LARGE}{_PRIVATE}; echo "$P/objects" >> "$G/objects/info/alternates"; '
        'git update-ref "refs/heads/$ALLUVIUM_BRANCH" "$S"; '
        'echo "$S" > "$G/refs/heads/stolen"',
        lambda s, d: s.ran(d),
        _NO_GIT,
    ),
    "links to what is private": Deed(
        "git",
        f'{_LARGE}{_PRIVATE}; for o in "$P"/objects/*; do ln -s "$o" "$G/objects/"; done; '
        'ln -s "$P/objects" "$G/objects/info/more"; echo "$S" > "$G/refs/heads/stolen"',
        lambda s, d: s.ran(d),
        _NO_GIT,
    ),
}
PLANTED: Final = {
    "plants links for its next attempt": Deed(
        "later",
        'if [ -e "$A/outputs/done" ] || [ -d "$A/discovery" ]; then exit 0; fi; '
        'rm -rf "$A/outputs" "$A/effects" "$A/sessions" "$A/discovery"; '
        "for n in outputs effects sessions discovery prompt.md result.json; do "
        'rm -rf "$A/$n"; ln -s "$ROOT/../trap" "$A/$n"; done; exit 1',
        lambda scene, _: scene.fact("trapped"),
        "names in an agent's folder are never followed",
    ),
    "plants links for its next home": Deed(
        "later",
        'mkdir -p "$A/sessions"; rm -rf "$A/sessions/home"; '
        'ln -s "$ROOT/../trap" "$A/sessions/home" && exit 1',
        lambda scene, _: scene.fact("trapped"),
        "names in an agent's folder are never followed",
    ),
}
DEEDS: Final = {**READS, **NETWORK, **CHANGES, **RESOURCES, **GIT, **PLANTED}
