"""A base that follows a remote: what others pushed, and what keeps ours from being pushed."""

_TRIED_AGAIN = "It is tried again by itself, and at once with 'alluvium-like resume'"


def upstream_summary(title: str) -> str:
    """Return the first line of the commit that merges what others pushed."""
    return f"Merge what others pushed to {title}"


def upstream_input(title: str, base_branch: str, tip: str) -> str:
    """Return what stands in the input folder of a task that merges what others pushed."""
    return (
        f"# {upstream_summary(title)}\n\n"
        f"Others pushed commit {tip} while `{base_branch}` moved on here. Both histories are to be "
        "kept: the branch of this task starts at their commit, and the base is merged into it. "
        "Where the two contradict each other, resolve it so that both intentions hold, and commit "
        "the merge. Never reset, rebase or squash: their commits must stay in the history.\n"
    )


def upstream_lost(title: str, tip: str) -> str:
    """Say that work that was to merge what others pushed has lost it."""
    return (
        f"it no longer holds {tip[:12]}, which others pushed to {title}, in its history, so it "
        "could never be pushed; the commit has to be merged, not rewritten"
    )


def not_pushed(title: str, reason: str) -> str:
    """Say why the base is not pushed, and what will be done about it."""
    return f"{title} cannot be brought up to date: {reason}. {_TRIED_AGAIN}"


def upstream_waits(title: str, reason: str) -> str:
    """Say why what others pushed is not on the base yet."""
    return f"{title} has new commits, and taking them up waits: {reason}. {_TRIED_AGAIN}"


def push_held(title: str) -> str:
    """Say that nothing is pushed or taken up while nothing lands either."""
    return f"{title} waits: see the condition escape. It goes on after 'alluvium-like resume'"


def upstream_rewritten(title: str, base_branch: str) -> str:
    """Ask a person what to do about a remote branch that lost commits that the base holds."""
    return (
        f"{title} was rewritten or deleted by others: it no longer holds commits that "
        f"{base_branch} holds, or that a task is merging. Nothing is pushed or taken up until you "
        f"have decided: push {base_branch} yourself to bring them back, or let {base_branch} "
        "follow with 'git fetch' and 'git reset', and cancel that task"
    )


def base_rewritten(title: str, base_branch: str) -> str:
    """Ask a person what to do about a base that lost commits that were pushed."""
    return (
        f"{base_branch} was rewritten here: it no longer holds commits that were pushed to {title}."
        f" Nothing is pushed or taken up until you have decided: push it yourself with "
        f"'git push --force-with-lease', or let {base_branch} follow with 'git reset'"
    )


def upstream_unrelated(title: str, base_branch: str) -> str:
    """Ask a person what to do about a remote branch that cannot be merged."""
    return (
        f"{title} and {base_branch} have no commit in common, so neither is pushed nor taken up; "
        "is it the right remote? Else merge them yourself"
    )


def upstream_unmerged(title: str, task_id: str, state: str) -> str:
    """Say which task has to be dealt with before the base can be pushed."""
    return (
        f"{title} has commits that contradict the base, and {task_id}, which is to merge them, is "
        f"{state}: 'approve', 'answer' or 'retry' it, or merge them yourself"
    )
