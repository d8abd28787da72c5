"""Time: UTC for what is stored, monotonic for every deadline."""

import time
from datetime import UTC, datetime, timedelta


def utc_now() -> str:
    """Return the time of day as ISO 8601 UTC with milliseconds, as the store keeps it."""
    return utc_after(timedelta())


def utc_after(delay: timedelta) -> str:
    """Return the time that it will be then, in the same form, so that texts compare as times."""
    then = datetime.now(UTC) + delay
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_stamp() -> str:
    """Return the time of day as `20260516T101530Z`, as task ids begin."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def monotonic() -> float:
    """Return seconds that never jump; only differences mean anything."""
    return time.monotonic()
