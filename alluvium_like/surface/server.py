"""The daemon's side of the control socket: mode 0600, one request a line.

Every method commits and answers, or answers with the reason why not; a client that misbehaves
harms its own connection only.
"""

import inspect
import json
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from alluvium_like.errors import AlluviumError, reason_of
from alluvium_like.log import get_logger
from alluvium_like.place import Place
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts
from alluvium_like.surface.protocol import reachable

log = get_logger(__name__)

_LONGEST_REQUEST = 1_000_000
_BACK_OFF_SECONDS = 1.0
Method = Callable[..., Awaitable[dict[str, object]]]


async def serve_control(
    parts: Parts,
    methods: dict[str, Method],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled. Only the holder of the workspace's lock may call this.

    A socket that somebody took away is made again, once what is the daemon's own is in its place.
    """
    async with anyio.create_task_group() as answers:
        await _listen(parts, methods, answers, task_status)
        while True:
            try:
                await parts.mend()
                await _listen(parts, methods, answers)
            except (AlluviumError, OSError) as error:
                parts.health.tell(error)
                await parts.wakes.control.wait(SLOW_LOOK_SECONDS)


async def _listen(
    parts: Parts,
    methods: dict[str, Method],
    answers: anyio.abc.TaskGroup,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Make the socket and accept callers until it is not there any more."""
    place = parts.workspace.socket
    await anyio.Path(place).unlink(missing_ok=True)
    with reachable(place) as path:
        listener = await anyio.create_unix_listener(path, mode=0o600)
    made = await anyio.to_thread.run_sync(Place.of, place)
    try:
        async with listener, anyio.create_task_group() as accepting:
            accepting.start_soon(_accept_all, parts, methods, listener, answers)
            task_status.started()
            while await anyio.to_thread.run_sync(made.is_there):
                await parts.wakes.control.wait(SLOW_LOOK_SECONDS)
            accepting.cancel_scope.cancel()
            log.warning("socket_gone", socket=str(place))
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(made.remove)


async def _accept_all(
    parts: Parts,
    methods: dict[str, Method],
    listener: anyio.abc.SocketListener,
    answers: anyio.abc.TaskGroup,
) -> None:
    async def answer(link: anyio.abc.SocketStream) -> None:
        async with link:
            try:
                await _answer_all(link, methods)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            except anyio.IncompleteRead:
                return
            except anyio.DelimiterNotFound:
                log.warning("request_too_long", limit=_LONGEST_REQUEST)

    while True:
        try:
            answers.start_soon(answer, await listener.accept())
        except anyio.BrokenResourceError as error:  # the caller stays in the queue
            parts.health.tell(error.__cause__ or error)
            await anyio.sleep(_BACK_OFF_SECONDS)


async def _answer_all(link: anyio.abc.SocketStream, methods: dict[str, Method]) -> None:
    stream = BufferedByteReceiveStream(link)
    while True:
        line = await stream.receive_until(b"\n", _LONGEST_REQUEST)
        reply = await _answer(line, methods)
        await link.send(json.dumps(reply).encode() + b"\n")


async def _answer(line: bytes, methods: dict[str, Method]) -> dict[str, object]:
    try:
        request = json.loads(line)
        method, params = methods[request["method"]], dict(request.get("params") or {})
        inspect.signature(method).bind(**params)
    except (ValueError, KeyError, TypeError):
        return {
            "error": "the daemon does not know this request; is it another version?",
            "exit_code": 1,
        }
    try:
        return {"result": await method(**params)}
    except AlluviumError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except Exception as error:  # the one catch-all of this loop: nobody's request ends the daemon
        log.exception("request_failed", method=request["method"])
        text = f"the daemon stumbled over this: {reason_of(error)}; see logs/daemon.jsonl"
        return {"error": text, "exit_code": 1}
