"""What a person may do, as methods of the control socket: by name, with nothing to tell back."""

from collections.abc import Awaitable, Callable

from alluvium_like.surface.actions import Actions
from alluvium_like.surface.server import Method


def methods_of(actions: Actions) -> dict[str, Method]:
    """Return the methods that actions are called by."""
    return {
        "answer": _on_task(actions.answer),
        "retry": _on_task(actions.retry),
        "cancel": _on_task(actions.cancel),
        "approve": _on_task(actions.approve),
        "reject": _on_task(actions.reject),
        "revert": _on_task(actions.revert),
        "set": _on_task(actions.set),
        "pause": _on_daemon(actions.pause),
        "resume": _on_daemon(actions.resume),
    }


def _on_task(action: Callable[..., Awaitable[object]]) -> Method:
    async def call(task_id: str, **params: str) -> dict[str, object]:
        await action(task_id, **params)
        return {}

    return call


def _on_daemon(action: Callable[[], Awaitable[None]]) -> Method:
    async def call() -> dict[str, object]:
        await action()
        return {}

    return call
