"""The messages of commits."""

from alluvium_like.messages.layout import one_line

TRAILER = "Task-Id"


def commit_message(name: str, task_id: str, subject: str, summary: str) -> str:
    """Return the message of a landed commit; its last paragraph is the daemon's trailer alone."""
    first = one_line(subject) or one_line(summary) or one_line(name)
    body = summary.strip() if one_line(summary) != first else ""
    paragraphs = [first, f"Task: {one_line(name)}", body, f"{TRAILER}: {task_id}"]
    return "\n\n".join(p for p in paragraphs if p) + "\n"


def revert_message(name: str, commit: str) -> str:
    """Return the message of the work of a revert."""
    return f"Revert {one_line(name)}\n\nThis takes back commit {commit}.\n"


def base_merged_in(base_branch: str) -> str:
    """Return the message of the merge with which a revision starts."""
    return f"Merge {base_branch} before the next attempt"
