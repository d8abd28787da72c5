"""The program: a short way to what is asked all the time, and the one place that reports errors."""

import io
import os
import sys
from typing import NoReturn

from alluvium_like.cli.look import try_look
from alluvium_like.cli.plain import printable
from alluvium_like.errors import AlluviumError


def main() -> NoReturn:
    """Run one command; every expected failure is one clear message and exit code 1 or 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be any bytes
    try:
        try:
            if not try_look(sys.argv[1:]):
                from alluvium_like.cli.app import app
                from alluvium_like.failpoint import arm

                arm(os.environ)

                app(prog_name="alluvium-like")
        finally:
            sys.stdout.flush()  # here, where a pipe that was closed is no surprise
    except AlluviumError as error:
        print(f"alluvium-like: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        text = printable(f"{where}{error.strerror or error}")
        print(f"alluvium-like: {text}", file=sys.stderr)
        _drop_output()
        sys.exit(1)
    sys.exit(0)


def _drop_output() -> None:
    """Let the interpreter's own last flush succeed, whatever has become of stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
