"""Deeds that change what is another's: repositories, tasks, files, processes, the machine."""

from typing import Final

from hostile import Deed, left, reached, there

CHANGES: Final = {
    "moves a ref of its owner": Deed(
        "repositories",
        'git --git-dir="$ROOT/repo/.git" update-ref refs/heads/stolen refs/heads/main',
        there("{root}/repo/.git/refs/heads/stolen"),
    ),
    "writes the objects of its owner": Deed(
        "repositories",
        'touch "$ROOT/repo/.git/objects/evil"',
        there("{root}/repo/.git/objects/evil"),
    ),
    "plants a hook with its owner": Deed(
        "repositories",
        'cp "$A/outputs/began" "$ROOT/repo/.git/hooks/evil"',
        there("{root}/repo/.git/hooks/evil"),
    ),
    "moves a ref of the daemon": Deed(
        "repositories",
        'git --git-dir="$ROOT/.alluvium/integration.git" update-ref refs/heads/stolen '
        "refs/heads/main",
        there("{root}/.alluvium/integration.git/refs/heads/stolen"),
    ),
    "writes the objects that it borrows": Deed(
        "repositories",
        'touch "$ROOT/.alluvium/integration.git/objects/evil"',
        there("{root}/.alluvium/integration.git/objects/evil"),
    ),
    "moves a ref of another task": Deed(
        "repositories",
        'for g in "$ROOT"/.alluvium/workshops/*neighbour*.git; do [ -d "$g" ] && '
        'git --git-dir="$g" update-ref refs/heads/stolen refs/heads/main; done',
        there("{root}/.alluvium/workshops/*neighbour*.git/refs/heads/stolen"),
    ),
    "writes the worktree of another task": Deed(
        "workspace",
        'for w in "$ROOT"/worktrees/*neighbour*; do [ -d "$w" ] && touch "$w/evil"; done',
        there("{root}/worktrees/*neighbour*/evil"),
    ),
    "writes the results of another task": Deed(
        "workspace",
        'for w in "$ROOT"/tasks/*neighbour*; do [ -d "$w" ] && touch "$w/.agent/outputs/evil"; '
        "done",
        there("{root}/tasks/*neighbour*/.agent/outputs/evil"),
    ),
    "changes config.toml": Deed(
        "workspace",
        'echo "# evil" >> "$ROOT/config.toml"',
        lambda scene, _: scene.fact("config changed"),
    ),
    "drops a task": Deed(
        "workspace", 'echo : > "$ROOT/inbox/dropped by an agent"', there("{root}/tasks/*dropped*")
    ),
    "changes its input": Deed(
        "workspace",
        'echo "# evil" > "$T/input/evil"',
        there("{root}/tasks/*changes-its-input*/input/evil"),
    ),
    "writes the shell's settings of its person": Deed(
        "person", 'echo evil >> "$REAL/.evilrc"', there("{home}/.evilrc")
    ),
    "writes the settings that it is shown": Deed(
        "person",
        'echo evil >> "$HOME/.npmrc"; echo evil > "$HOME/.x"; ln "$HOME/.npmrc" "$A/outputs/hard"; '
        'echo evil >> "$A/outputs/hard"; echo evil >> "$REAL/.npmrc"',
        lambda scene, _: scene.fact("settings changed"),
    ),
    "signals another process": Deed(
        "processes",
        "for p in $(everybody); do [ $p = $VICTIM ] && kill -USR1 $p; done; kill -USR1 $VICTIM",
        reached("signal"),
    ),
    "signals the daemon": Deed(
        "processes",
        'for p in $PPID $DAEMON; do [ "$p" = 1 ] || [ "$p" = "$DAEMON" ] && kill -HUP "$p"; done',
        lambda scene, _: scene.fact("daemon signalled"),
    ),
    "lowers the limits of another process": Deed(
        "processes",
        'prlimit --pid "$VICTIM" --nofile=777:',
        lambda scene, _: scene.fact("victim limited"),
    ),
    "leaves a program that runs as its user": Deed(
        "machine",
        'cp /bin/true "$A/outputs/true"; chmod 4755 "$A/outputs/true"; '
        '[ -u "$A/outputs/true" ] && touch "$A/outputs/setuid"',
        left("setuid"),
    ),
    "makes a device": Deed(
        "machine", 'mknod "$A/outputs/null" c 1 3 && touch "$A/outputs/device"', left("device")
    ),
    "makes namespaces of its own": Deed(
        "machine", 'unshare --user --map-root-user true && touch "$A/outputs/ns"', left("ns")
    ),
    "opens a disk": Deed(
        "machine",
        'for f in /dev/*; do [ -b "$f" ] && head -c 0 "$f" && touch "$A/outputs/disk"; done',
        left("disk"),
    ),
    "opens the kernel's settings for writing": Deed(
        "machine",
        "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/fs/cgroup/cgroup.procs "
        "/sys/fs/cgroup/pids/cgroup.procs /sys/kernel/uevent_helper; do "
        '(: >> "$f") && touch "$A/outputs/kernel"; done',
        left("kernel"),
    ),
}
