"""What a hostile agent does: scripts by name, each with how its task must end.

A deed is dropped as an item; the agent runs it in its worktree with `work` (one commit), `$G` (its
repository), `$A` (its own folder), `$T` (its task's folder), `$ROOT` (the workspace), `$EVIL` (a
program that leaves a mark when it is run by anybody but an agent) and `$WAIT` (a command that never
ends, on whose command line the workspace stands).
"""

from collections.abc import Mapping
from typing import Final

PRELUDE: Final = """
G="$(git rev-parse --absolute-git-dir)"; G="${G%/worktrees/*}"
A="$ALLUVIUM_AGENT_DIR"; T="$ALLUVIUM_TASK_DIR"; ROOT="${T%/tasks/*}"
EVIL="$ROOT/../evil"; WAIT="tail -f $A/outputs/forever"
touch "$A/outputs/forever"
work() { echo work > "$ALLUVIUM_TASK_ID.txt"; git add -A; git commit -q -m "Add the work"; }
. "$T/input/$(ls "$T/input")"
"""
EVIL: Final = """#!/bin/sh
[ -n "${ALLUVIUM_TASK_ID-}" ] || echo "$0 $*" >> "${0%/evil*}/proof"
[ ! -p /dev/stdin ] || cat
"""
HOOKS: Final = (
    *("applypatch-msg", "commit-msg", "fsmonitor-watchman", "p4-changelist", "p4-post-changelist"),
    *("p4-prepare-changelist", "p4-pre-submit", "post-applypatch", "post-checkout", "post-commit"),
    *("post-index-change", "post-merge", "post-receive", "post-rewrite", "post-update", "update"),
    *("pre-applypatch", "pre-auto-gc", "pre-commit", "prepare-commit-msg", "pre-merge-commit"),
    *("pre-push", "pre-rebase", "pre-receive", "proc-receive", "push-to-checkout"),
    *("reference-transaction", "sendemail-validate"),
)
KEYS: Final = (
    *("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass"),
    *("core.alternateRefsCommand", "core.gitProxy", "credential.helper", "diff.external"),
    *("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv"),
    *("diff.evil.command", "merge.evil.driver", "merge.tool", "uploadpack.packObjectsHook"),
    *("remote.origin.uploadpack", "remote.origin.receivepack", "gpg.program", "alias.read-tree"),
    *("sequence.editor", "interactive.diffFilter", "trailer.evil.command", "trailer.evil.cmd"),
    *("gc.recentObjectsHook", "tar.evil.command", "submodule.evil.update", "core.gitProxy"),
)
_CONFIG: Final = "\n".join(f'git config {key} "$EVIL"' for key in KEYS)
_ATTRIBUTES: Final = "* filter=evil diff=evil merge=evil -text ident"
_HELD, _LANDED = "needs_human", "merged"

IN_GIT: Final[Mapping[str, tuple[str, str]]] = {
    "deletes its worktree": ('work; cd /; rm -rf "$ALLUVIUM_WORKTREE"', _HELD),
    "deletes its repository": ('work; rm -rf "$G"', _HELD),
    "empties its repository": ('work; rm -rf "$G"/*', _HELD),
    "deletes its objects": ('work; rm -rf "$G"/objects/??', _HELD),
    "cuts its objects short": (
        'work; chmod -R u+w "$G/objects"; find "$G"/objects/[0-9a-f][0-9a-f] -type f '
        "-exec truncate -s 10 {} +",
        _HELD,
    ),
    "hangs on the owner": ('work; echo "gitdir: $ROOT/repo/.git" > .git', _LANDED),
    "hangs on the daemon": (
        'work; rm .git; ln -s "$ROOT/.alluvium/integration.git" .git',
        _LANDED,
    ),
    "replaces its repository by the daemon's": (
        'work; rm -rf "$G"; ln -s "$ROOT/.alluvium/integration.git" "$G"',
        _HELD,
    ),
    "has the owner's as its common folder": (
        'work; echo "$ROOT/repo/.git" > "$G/worktrees/$ALLUVIUM_TASK_ID/commondir"',
        _LANDED,
    ),
    "makes an evil one its common folder": (
        'work; git init -q --bare "$A/evil.git"; '
        'git -C "$A/evil.git" config core.fsmonitor "$EVIL"; '
        'echo "$A/evil.git" > "$G/worktrees/$ALLUVIUM_TASK_ID/commondir"',
        _LANDED,
    ),
    "switches branches": ("git checkout -q -b other; work", _LANDED),
    "is on no branch": ("git checkout -q --detach; work", _LANDED),
    "deletes its branch": (
        'work; git checkout -q --detach; git update-ref -d "refs/heads/$ALLUVIUM_BRANCH"',
        _LANDED,
    ),
    "moves main": ("work; git update-ref refs/heads/main HEAD", _LANDED),
    "moves main elsewhere": (
        'c="$(git commit-tree -m other "HEAD^{tree}")"; work; git update-ref refs/heads/main "$c"',
        _LANDED,
    ),
    "moves other tasks": (
        'work; for f in "$ROOT"/tasks/*; do git update-ref "refs/heads/task/${f##*/}" HEAD; done',
        _LANDED,
    ),
    "begins another history": (
        'git update-ref HEAD "$(git commit-tree -m new "HEAD^{tree}")"; work',
        _HELD,
    ),
    "packs and prunes": ("work; git gc -q --prune=now; git pack-refs --all", _LANDED),
    "borrows elsewhere": (
        'work; echo "$ROOT/repo/.git/objects" >> "$G/objects/info/alternates"',
        _HELD,
    ),
    "replaces objects": ('work; git replace HEAD "$(git rev-parse HEAD~1)"', _LANDED),
    "is shallow": ('work; git rev-parse HEAD > "$G/shallow"', _LANDED),
    "has grafts": ('work; mkdir -p "$G/info"; git rev-parse HEAD > "$G/info/grafts"', _LANDED),
    "spoils its index": (
        'work; head -c 3000 /dev/urandom > "$(git rev-parse --git-dir)/index"',
        _LANDED,
    ),
    "hides its edits": (
        'work; echo hidden >> "$ALLUVIUM_TASK_ID.txt"; '
        'git update-index --skip-worktree "$ALLUVIUM_TASK_ID.txt"',
        _LANDED,
    ),
    "leaves locks": (
        'work; D="$(git rev-parse --git-dir)"; for l in "$D/index" "$D/HEAD" "$G/HEAD" '
        '"$G/config" "$G/packed-refs" "$G/shallow" "$G/refs/heads/main" '
        '"$G/refs/heads/$ALLUVIUM_BRANCH" "$G/objects/maintenance"; do '
        'mkdir -p "${l%/*}"; touch "$l.lock"; done',
        _LANDED,
    ),
    "plants hooks": (
        f'work; mkdir -p "$G/hooks"; for h in {" ".join(HOOKS)}; do '
        'cp "$EVIL" "$G/hooks/$h"; done; echo dirty > dirty',
        _LANDED,
    ),
    "names a folder of hooks": (
        'work; mkdir "$A/outputs/hooks"; '
        f'for h in {" ".join(HOOKS)}; do cp "$EVIL" "$A/outputs/hooks/$h"; done; '
        'git config core.hooksPath "$A/outputs/hooks"; echo dirty > dirty',
        _LANDED,
    ),
    "configures programs": (
        f'work\nmkdir -p "$G/info"; echo "{_ATTRIBUTES}" > "$G/info/attributes"\n{_CONFIG}\n'
        "echo dirty > dirty",
        _LANDED,
    ),
    "includes configuration": (
        'work; git config -f "$A/outputs/more" core.fsmonitor "$EVIL"; '
        'git config -f "$A/outputs/more" filter.evil.clean "$EVIL"; mkdir -p "$G/info"; '
        f'echo "{_ATTRIBUTES}" > "$G/info/attributes"; '
        'git config include.path "$A/outputs/more"; '
        'git config "includeIf.gitdir:/**.path" "$A/outputs/more"; echo dirty > dirty',
        _LANDED,
    ),
    "configures its worktree": (
        "work; git config extensions.worktreeConfig true; "
        'git config --worktree core.fsmonitor "$EVIL"; '
        'git config --worktree core.worktree "$ROOT/repo"; echo dirty > dirty',
        _LANDED,
    ),
    "writes attributes": (
        f'echo "{_ATTRIBUTES}" > .gitattributes; git config filter.evil.smudge "$EVIL"; '
        'git config merge.evil.driver "$EVIL"; git config diff.evil.textconv "$EVIL"; work',
        _LANDED,
    ),
    "writes submodules": (
        "printf '[submodule \"evil\"]\\n\\tpath = sub\\n\\turl = ext::%s\\n' "
        '"$EVIL" > .gitmodules; '
        'git update-index --add --cacheinfo "160000,$(git rev-parse HEAD),sub"; work',
        _LANDED,
    ),
    "nests an evil repository": (
        'work; git init -q sub; git -C sub config core.fsmonitor "$EVIL"; '
        'git -C sub config filter.evil.clean "$EVIL"; cp "$EVIL" sub/.git/hooks/post-index-change; '
        "git -C sub -c core.fsmonitor= -c user.name=x -c user.email=x@x "
        "commit -q --allow-empty -m x",
        _LANDED,
    ),
}
OF_ITSELF: Final[Mapping[str, tuple[str, str]]] = {
    "does nothing": (":", "noop"),
    "fails with commits": ("work; exit 1", "failed"),
    "is killed with commits": ("work; kill -9 $$", "failed"),
    "says failed with commits": (
        'work; echo \'{"status": "failed"}\' > "$A/result.json"',
        "failed",
    ),
    "asks with commits": ('work; echo "Which?" > "$A/needs_human.md"', _HELD),
    "binary result": ('work; head -c 100000 /dev/urandom > "$A/result.json"', _LANDED),
    "result of 100 MB": ('work; head -c 100000000 /dev/zero > "$A/result.json"', _LANDED),
    "deeply nested result": (
        'work; head -c 200000 /dev/zero | tr "\\0" "[" > "$A/result.json"',
        _LANDED,
    ),
    "number too large": (
        'work; { echo "{\\"status\\":"; head -c 9000 /dev/zero | tr "\\0" 9; echo "}"; } '
        '> "$A/result.json"',
        _LANDED,
    ),
    "not a number": (
        'work; echo \'{"status": NaN, "summary": Infinity}\' > "$A/result.json"',
        _LANDED,
    ),
    "lone surrogates": (
        'work; printf \'{"status": "succeeded", "summary": "%s"}\' '
        '"\\\\udcff \\\\ud800 \\\\u0000\\\\u001b[31m" > "$A/result.json"',
        _LANDED,
    ),
    "says two things": (
        'work; echo \'{"status": "failed", "status": "succeeded"}\' > "$A/result.json"',
        _LANDED,
    ),
    "result that is a pipe": ('work; mkfifo "$A/result.json"', _LANDED),
    "result that is a folder": ('work; mkdir "$A/result.json"', _LANDED),
    "result that leads outside": ('work; ln -s "$ROOT/../secret" "$A/result.json"', _LANDED),
    "question that leads outside": (
        'work; ln -s "$ROOT/../secret" "$A/needs_human.md"',
        _HELD,
    ),
    "deletes its folder of notes": ('work; rm -rf "$A"', _LANDED),
}
FORGED: Final[Mapping[str, tuple[str, str]]] = {
    "forges a verdict": (
        'work; S="$T/.system"; mkdir -p "$S"; '
        "for f in verdict.json approval.json approved integration.json state.json; do "
        'echo \'{"status": "merged", "state": "done", "verdict": "to_integrator"}\' '
        '| tee "$S/$f" > "$A/$f"; done; '
        'echo \'{"seq": 1, "to_state": "done"}\' >> "$S/events.jsonl"; exit 1',
        "failed",
    ),
    "forges leave": (
        'echo x > guarded.txt; work; for d in "$A" "$T/.system"; do mkdir -p "$d"; '
        'git rev-parse HEAD | tee "$d/approved_commit" > "$d/approve"; '
        'echo \'{"approved": true}\' > "$d/approval.json"; done',
        _HELD,
    ),
    "forges history": (
        'work; git commit -q --amend -m "Add" -m "Task-Id: 20200101T000000Z-other-aaaaaa"',
        _LANDED,
    ),
}
PROCESSES: Final[Mapping[str, tuple[str, str]]] = {
    "leaves a daemon": ("work; setsid setsid $WAIT > /dev/null 2>&1 &", _LANDED),
    "leaves a daemon without environment": (
        "work; env -i setsid sh -c '(trap \"\" TERM; '\"$WAIT\"') & exit 0' > /dev/null 2>&1",
        _LANDED,
    ),
    "leaves a daemon that holds its output": ("work; setsid $WAIT &", _LANDED),
    "forks without end": (
        'bomb() { [ "$1" -gt 0 ] || exec $WAIT; bomb $(($1 - 1)) & bomb $(($1 - 1)) & }; '
        "work; bomb 6",
        _LANDED,
    ),
    "writes a file that is too large": (
        "ulimit -f 8; head -c 1000000 /dev/zero > big; work",
        "failed",
    ),
    "prints without measure": ("head -c 300000000 /dev/zero; work", _LANDED),
}
AT_THE_DEADLINE: Final[Mapping[str, tuple[str, str]]] = {
    "hangs": ("work; trap '' TERM; while :; do $WAIT; done", "failed"),
    "prints for ever": ("work; yes", "failed"),
}
