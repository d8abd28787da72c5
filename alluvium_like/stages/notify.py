"""Notify: carries committed events out of the store, to tasks/<id>/.system/events.jsonl.

The file is a projection: the rows are the truth. How far it has got is stored now and then; after a
crash the files of all tasks with later events are written anew, so nothing is missing or doubled,
and what was half written of their other files is taken away.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable

import anyio
import anyio.to_thread

from alluvium_like.errors import StoreError
from alluvium_like.guarded import append, drop_halves, own_path, place
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts
from alluvium_like.store.rows import Row
from alluvium_like.task import Task
from alluvium_like.workspace import EVENTS_NAME, SYSTEM_NAME

log = get_logger(__name__)

_META = "projected_event"
_SAVE_EVERY = 1000
_REWRITE_AT_ONCE = 100


class Notify:
    """The stage that follows the event rows."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._at = 0
        self._saved = 0

    async def catch_up(self) -> None:
        """After a start: write the files anew that may have missed events."""
        store = self._parts.store
        self._at = self._saved = int(await store.get_meta(_META) or 0)
        stale = await store.tasks_with_events_after(self._at)
        for start in range(0, len(stale), _REWRITE_AT_ONCE):
            batch = stale[start : start + _REWRITE_AT_ONCE]
            files = [
                (await store.get(task_id), _lines(await store.events_of(task_id)))
                for task_id in batch
            ]
            await anyio.to_thread.run_sync(self._rewrite, files)
        self._at = await store.last_event()
        await self._save()

    async def run(self) -> None:
        """Append events as they are committed, until the daemon stops; then save how far it got."""
        while not self._parts.runs.stopping:
            await self._follow_or_log()
            await self._parts.wakes.notify.wait(SLOW_LOOK_SECONDS)

    async def finish(self) -> None:
        """Carry out what is left; called when no other stage runs any more."""
        await self._follow_or_log()
        try:
            await self._save()
        except StoreError:  # the next start writes again what may be missing
            log.exception("progress_not_stored")

    async def _follow_or_log(self) -> None:
        try:
            await self._follow()
        except Exception as error:
            if not self._parts.health.tell(error):
                log.exception("events_not_written")

    async def _follow(self) -> None:
        while events := await self._parts.store.events_after(self._at):
            await anyio.to_thread.run_sync(self._append, events)
            self._at = events[-1]["seq"]
            if self._at - self._saved >= _SAVE_EVERY:
                await self._save()

    async def _save(self) -> None:
        if self._at != self._saved:
            await self._parts.store.set_meta(_META, str(self._at))
            self._saved = self._at

    def _append(self, events: Iterable[Row]) -> None:
        workspace = self._parts.workspace
        by_task: dict[str, list[Row]] = defaultdict(list)
        for event in events:
            by_task[event["task_id"]].append(event)
        for task_id, rows in by_task.items():
            if not workspace.task(task_id).is_there():
                continue
            with own_path(workspace.tasks, task_id, SYSTEM_NAME) as folder:
                append(folder, EVENTS_NAME, _lines(rows).encode())

    def _rewrite(self, files: Iterable[tuple[Task, str]]) -> None:
        workspace = self._parts.workspace
        for task, lines in files:
            ours = workspace.task(task.id)
            if not ours.is_there():
                continue
            for path in (ours.agent, ours.system, ours.attempt(task.attempt)):
                if os.path.lexists(path):
                    with own_path(workspace.tasks, *path.relative_to(workspace.tasks).parts) as it:
                        drop_halves(it)
            with own_path(workspace.tasks, task.id, SYSTEM_NAME) as folder:
                place(folder, EVENTS_NAME, lines)


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
