"""The daemon's side of the control socket: mode 0600, one request a line.

Every method commits and answers, or answers with the reason why not; a client that misbehaves
harms its own connection only.
"""

import inspect
import json
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from alluvium_like.errors import AlluviumError
from alluvium_like.log import get_logger
from alluvium_like.surface.protocol import reachable
from alluvium_like.workspace import Workspace

log = get_logger(__name__)

_LONGEST_REQUEST = 1_000_000
_BACK_OFF_SECONDS = 1.0
Method = Callable[..., Awaitable[dict[str, object]]]


async def serve_control(
    workspace: Workspace,
    methods: dict[str, Method],
    troubled: Callable[[BaseException], object],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled. Only the holder of the workspace's lock may call this.

    `troubled` is told why a caller has to wait: for want of descriptors, say.
    """
    await anyio.Path(workspace.socket).unlink(missing_ok=True)

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

    with reachable(workspace.socket) as path:
        listener = await anyio.create_unix_listener(path, mode=0o600)
    try:
        async with listener, anyio.create_task_group() as answers:
            task_status.started()
            while True:
                try:
                    answers.start_soon(answer, await listener.accept())
                except anyio.BrokenResourceError as error:  # the caller stays in the queue
                    troubled(error.__cause__ or error)
                    await anyio.sleep(_BACK_OFF_SECONDS)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.Path(workspace.socket).unlink(missing_ok=True)


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
    except Exception:  # the one catch-all of this loop: nobody's request ends the daemon
        log.exception("request_failed", method=request["method"])
        return {"error": "the daemon stumbled over this; see logs/daemon.jsonl", "exit_code": 1}
