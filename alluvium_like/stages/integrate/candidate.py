"""From a merged tree to the commit that may land: its parents, author and message.

The committer's date is the task's and the author's that of the work, so that a repeated merge after
a crash is the same commit.
"""

from datetime import datetime

from alluvium_like.gitrepo.runner import Identity
from alluvium_like.lifecycle import TaskKind
from alluvium_like.masking import mask
from alluvium_like.messages import commit_message
from alluvium_like.stages.parts import Parts
from alluvium_like.task import Task


def brings_commits(parts: Parts, task: Task) -> bool:
    """Tell whether a task's own commits land with it.

    What others pushed keeps its commits: else it could never be pushed back to them.
    """
    style = parts.settings.current.integration.merge_style
    return style == "merge" or task.kind is TaskKind.UPSTREAM


async def build_commit(parts: Parts, task: Task, top: str, tree: str, *, merge: bool) -> str:
    """Write the candidate of one task on top of `top`, as a merge or squashed. Raises GitFailed."""
    work = await parts.integration.history.authors(task.base_commit or top, task.head_commit)
    config = parts.settings.current
    date = f"@{int(datetime.fromisoformat(task.created_at).timestamp())} +0000"
    daemon = Identity(config.git.author_name, config.git.author_email, date)
    authors = {(who.name, who.email) for who, _ in work}
    author = daemon
    if len(authors) == 1 and not merge:
        first = work[0][0]
        author = Identity(
            first.name or daemon.name,
            first.email or daemon.email,
            f"@{first.date}" if first.date else date,
        )
    subject = mask(work[0][1]) if len(work) == 1 else ""
    return await parts.integration.commit(
        tree,
        [top, task.head_commit] if merge else [top],
        commit_message(task.title, task.id, subject, task.summary),
        author=author,
        committer=daemon,
    )
