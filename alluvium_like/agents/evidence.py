"""What an agent left in its folder, read as evidence; and the folder made ready for an attempt.

Nothing in the folder is trusted: links are not followed, pipes and devices are not waited for,
sizes are bounded, and every name is opened relative to the folder's own descriptor, so that no
planted link can lead a read or a write of the daemon's out of it. A person is rather asked once
too often: a question that cannot be read is a question. Words of the agent's are told without
secrets.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from alluvium_like.failpoint import step
from alluvium_like.guarded import (
    exists,
    free_name,
    open_folder,
    own_folder,
    own_path,
    place,
    read_regular,
)
from alluvium_like.lifecycle import Claim
from alluvium_like.masking import mask
from alluvium_like.trouble import trouble_of

_MAX_RESULT_BYTES = 256 * 1024
_MAX_QUESTION = 64 * 1024
_READ_OF_QUESTION = 8 * _MAX_QUESTION
"""In bytes; more than is shown, so that no secret is cut in two before it is masked."""
_MAX_SUMMARY = 1000
_OF_ONE_ATTEMPT = ("needs_human.md", "result.json", "result.md")
_STATUSES = {claim.value: claim for claim in (Claim.SUCCEEDED, Claim.FAILED, Claim.NEEDS_HUMAN)}


@dataclass(frozen=True, slots=True)
class ClaimRead:
    """What result.json says; `problem` tells why it could not be understood, empty when it was."""

    claim: Claim
    summary: str
    problem: str


NO_CLAIM = ClaimRead(Claim.NOTHING, "", "")


def read_claim(agent_dir: Path) -> ClaimRead:
    """Read the agent's own word on its attempt; a missing file is no claim and no problem.

    Raises OSError where the machine is in trouble: what cannot be read now is not unsaid.
    """
    try:
        with open_folder(agent_dir) as folder:
            raw = read_regular(folder, "result.json", _MAX_RESULT_BYTES + 1)
    except FileNotFoundError:
        return NO_CLAIM
    except OSError as error:
        if trouble_of(error):
            raise
        return _unclear(f"cannot be read: {error.strerror}")
    if raw is None:
        return _unclear("is not a regular file")
    if len(raw) > _MAX_RESULT_BYTES:
        return _unclear(f"is larger than {_MAX_RESULT_BYTES} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return _unclear("is not JSON")
    return _claim_in(document)


def read_question(agent_dir: Path) -> str | None:
    """Return what needs_human.md asks, at most 65,536 letters; None when there is no such file.

    Raises OSError where the machine is in trouble.
    """
    try:
        with open_folder(agent_dir) as folder:
            return _question_in(folder)
    except OSError as error:
        if trouble_of(error):
            raise
        return None


def prepare_agent_dir(agent_dir: Path) -> None:
    """Make the agent's folder with outputs/ and effects/; what stands in the way is renamed aside.

    The parent folder must exist. Raises OSError.
    """
    with own_path(agent_dir.parent, agent_dir.name) as folder:
        for name in ("outputs", "effects"):
            with own_folder(folder, name):
                pass


def put_aside(agent_dir: Path, attempt: int, note: str) -> None:
    """Move the results and the question of `attempt` to discovery/attempt-<n>/, with a note.

    After it, what is found under those names was written by a later attempt. Raises OSError.
    """
    with (
        open_folder(agent_dir) as folder,
        own_folder(folder, "discovery") as discovery,
        own_folder(discovery, f"attempt-{attempt}") as target,
    ):
        for name in _OF_ONE_ATTEMPT:
            if exists(folder, name):
                free = free_name(target, name)
                with step("evidence.keep"):
                    os.rename(name, free, src_dir_fd=folder, dst_dir_fd=target)
        place(target, "attempt.md", note)


def give(agent_dir: Path, name: str, text: str) -> None:
    """Place a file of the daemon's in the agent's folder, whole or not at all. Raises OSError."""
    with open_folder(agent_dir) as folder:
        place(folder, name, text)


def _claim_in(document: object) -> ClaimRead:
    if not isinstance(document, dict):
        return _unclear("is not a JSON object")
    said = document.get("summary", "")
    words = mask(said).split() if isinstance(said, str) else []
    summary = _printable(" ".join(words))[:_MAX_SUMMARY]
    status = document.get("status")
    if not isinstance(status, str) or status not in _STATUSES:
        return ClaimRead(
            Claim.NOTHING, summary, f"result.json: status is not one of {', '.join(_STATUSES)}"
        )
    return ClaimRead(_STATUSES[status], summary, "")


def _question_in(folder: int) -> str | None:
    try:
        raw = read_regular(folder, "needs_human.md", _READ_OF_QUESTION)
    except FileNotFoundError:
        return None
    except OSError as error:
        if trouble_of(error):
            raise
        return f"(needs_human.md cannot be read: {error.strerror})"
    if raw is None:
        return "(needs_human.md is not a regular file)"
    asked = mask(raw.decode("utf-8", "replace"))[:_MAX_QUESTION]
    lines = asked.expandtabs(4).splitlines()
    return "\n".join(map(_printable, lines)).strip() or "(no text)"


def _unclear(why: str) -> ClaimRead:
    return ClaimRead(Claim.NOTHING, "", f"result.json {why}")


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
