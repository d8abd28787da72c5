"""Serve a script until interrupted: the port on the first line, then a line for each request.

python -m model_server --port 0 --script case.json
"""

import argparse
import json
from pathlib import Path
from urllib.parse import urlsplit

from model_server.script import Script
from model_server.server import ModelServer, Request


def main() -> None:
    """Serve what the command line names."""
    parser = argparse.ArgumentParser(prog="model_server", description="Serve a scripted model.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path, required=True)
    told = parser.parse_args()
    server = ModelServer(Script.load(told.script), told.port, _print)
    print(urlsplit(server.url).port, flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        server.closing.set()


def _print(request: Request) -> None:
    asked = request.asked
    line = {
        "path": request.path,
        "key": request.key is not None,
        "model": asked.model,
        "stream": asked.stream,
        "messages": asked.messages,
        "calls": asked.calls,
        "tools": list(asked.tools),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
