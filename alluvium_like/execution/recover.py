"""What an earlier daemon left running: found by mark, by stored identity, and by session.

A session is searched only when its leader is known to be ours and still lives, or when a member
carries our mark; a number alone could be a stranger's. We, those above us and what we started
ourselves are never among the found: a daemon may itself have been started from within a run.
"""

import os

from alluvium_like.execution.adopt import own_children
from alluvium_like.execution.identity import ProcessIdentity, boot_id, identity_of_row
from alluvium_like.execution.marker import marked_processes
from alluvium_like.execution.table import Row, all_rows, with_descendants


def survivors_of(workspace_id: str, identities: list[ProcessIdentity]) -> list[ProcessIdentity]:
    """Return the living processes of an earlier daemon's runs.

    `identities` are the stored main processes. Blocks for some milliseconds; made for
    `end_processes`, which calls it again and again.
    """
    marked = {identity.pid for identity in marked_processes(workspace_id)}
    rows = all_rows()
    ours = marked & rows.keys()
    for main in identities:
        if main.boot_id == boot_id():
            ours |= _session_of(main, rows, marked)
    spared = _above(rows, os.getpid()) | with_descendants(rows, own_children())
    return [
        identity_of_row(rows[pid])
        for pid in with_descendants(rows, ours) - spared
        if not rows[pid].dead
    ]


def _session_of(main: ProcessIdentity, rows: dict[int, Row], marked: set[int]) -> set[int]:
    leader = rows.get(main.pid)
    leads = leader is not None and identity_of_row(leader) == main
    members = {pid for pid, row in rows.items() if main.pid in (row.session, row.group)}
    return members if leads or members & marked else set()


def _above(rows: dict[int, Row], pid: int) -> set[int]:
    above: set[int] = set()
    while pid in rows and pid not in above:
        above.add(pid)
        pid = rows[pid].parent
    return above
