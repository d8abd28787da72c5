"""Logging, set up once: JSON lines in logs/daemon.jsonl, and readable lines on stderr in front.

A thread does the writing: a slow disk must not hold up the event loop.

Events are snake_case; context carries `task_id` and `attempt`. Never the environment or a secret.
"""

import logging
import logging.handlers
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog


class _Handover(logging.handlers.QueueHandler):
    """Hands records over whole: structlog's formatter wants the event's fields, not its text."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


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
        structlog.processors.format_exc_info,  # here: the writing thread has no exception
    ]
    to_file = logging.handlers.RotatingFileHandler(
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


def _formatter(
    shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor
) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            renderer,
        ],
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
