"""Logging, set up once: JSON lines in logs/daemon.jsonl, and readable lines on stderr in front.

A thread does the writing: a slow disk must not hold up the event loop.

Events are snake_case; context carries `task_id` and `attempt`. Never the environment or a secret.
Of an exception that was foreseen an event tells the reason, of any other the traceback.
"""

import logging
import logging.handlers
import os
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from alluvium_like.errors import is_foreseen, reason_of
from alluvium_like.masking import mask
from alluvium_like.place import Place


class _Handover(logging.handlers.QueueHandler):
    """Hands records over whole: structlog's formatter wants the event's fields, not its text."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


class _LogFile(logging.handlers.RotatingFileHandler):
    """Goes on at its path where the file or its folder was taken away; else where it is now."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - logging's name
        if not self._is_in_place():
            with suppress(OSError):
                Path(self.baseFilename).parent.mkdir(exist_ok=True)
                left, self.stream = self.stream, self._open()
                if left is not None:
                    left.close()
        return bool(super().shouldRollover(record))

    def _is_in_place(self) -> bool:
        if self.stream is None:
            return False
        ours = os.fstat(self.stream.fileno())
        return Place(Path(self.baseFilename), ours.st_dev, ours.st_ino).is_there()


@contextmanager
def logging_to(
    log_file: Path, *, console: bool, most_bytes: int = 0, older_files: int = 1
) -> Iterator[None]:
    """Send events to `log_file` and, with `console`, to stderr as well; written out at the end.

    A file that would grow beyond `most_bytes` becomes `log_file`.1 and a new one is begun; 0 never
    does that.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _tell_exception,  # here: the writing thread has none
    ]
    to_file = _LogFile(
        log_file,
        maxBytes=most_bytes,
        backupCount=older_files,
        encoding="utf-8",
        errors="backslashreplace",
    )
    to_file.setFormatter(_formatter(shared, structlog.processors.JSONRenderer()))
    handlers: list[logging.Handler] = [to_file]
    if console:
        to_terminal = logging.StreamHandler(sys.stderr)
        to_terminal.setFormatter(
            _formatter(shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
        )
        handlers.append(to_terminal)
    logging.raiseExceptions = False  # a log on a full disk would fill stderr with tracebacks
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handover = _Handover(records)
    writer = logging.handlers.QueueListener(records, *handlers)
    root = logging.getLogger()
    root.addHandler(handover)
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handover)
        writer.stop()
        for handler in handlers:
            with suppress(OSError):  # a disk that is full or broken
                handler.close()


def _tell_exception(
    logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Put in words what an event says of an exception."""
    given = event.get("exc_info")
    found = sys.exc_info() if given is True else given
    error = found[1] if isinstance(found, tuple) else found
    if not isinstance(error, BaseException) or not is_foreseen(error):
        return structlog.processors.format_exc_info(logger, method, event)
    del event["exc_info"]
    return {**event, "error": reason_of(error)}


def _formatter(
    shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor
) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            renderer,
            _masked,
        ],
    )


def _masked(_logger: object, _method: str, line: object) -> str:
    return mask(str(line))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
