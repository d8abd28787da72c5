"""The command line's side of the control socket: synchronous, standard library only, so quick."""

import json
import socket
from collections.abc import Mapping

from alluvium_like.errors import AlluviumError, DaemonSilent, DaemonUnreachable
from alluvium_like.lock import is_locked
from alluvium_like.surface.protocol import reachable
from alluvium_like.workspace import Workspace

_TIMEOUT_SECONDS = 60.0
_LOOK_SECONDS = 2.0
Json = dict[str, object]


def call(
    workspace: Workspace,
    method: str,
    params: Mapping[str, object] | None = None,
    *,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    until_closed: bool = False,
) -> Json:
    """Ask the running daemon; with `until_closed` return only when it hung up.

    Raises AlluviumError with the daemon's own words, DaemonUnreachable when it does not answer.
    """
    request = json.dumps({"method": method, "params": dict(params or {})}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as link, reachable(workspace.socket) as path:
            link.settimeout(timeout_seconds)
            link.connect(path)
            link.sendall(request)
            with link.makefile("rb") as stream:
                line = stream.readline()
                if until_closed:
                    stream.read()
    except TimeoutError as error:
        raise DaemonSilent(
            f"the daemon did not answer within {timeout_seconds:g} s; see {workspace.log_file}; "
            "'alluvium-like stop --force' ends one that hangs"
        ) from error
    except OSError as error:
        if not is_locked(workspace):
            raise DaemonUnreachable(f"no daemon runs in {workspace.root}") from error
        why = (
            "the daemon does not belong to you"
            if isinstance(error, PermissionError)
            else "the daemon starts or stops now, or somebody took its socket away and it makes "
            "it again within a minute: try again"
        )
        raise DaemonUnreachable(f"{workspace.socket}: {error.strerror}; {why}") from error
    return _result(line)


def is_silent(workspace: Workspace) -> bool:
    """Tell whether the daemon can be reached and says nothing."""
    try:
        call(workspace, "ping", timeout_seconds=_LOOK_SECONDS)
    except DaemonSilent:
        return True
    except AlluviumError:
        return False
    return False


def _result(line: bytes) -> Json:
    if not line:
        raise DaemonUnreachable("the daemon hung up; it may be stopping: try again")
    reply = json.loads(line)
    if "error" in reply:
        failure = AlluviumError(reply["error"])
        failure.exit_code = reply["exit_code"]
        raise failure
    result: Json = reply["result"]
    return result
