"""Time: UTC for what is stored, monotonic for every deadline.

The time of day may be set, so nothing rests on it alone.
"""

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


def time_of_day() -> float:
    """Return the time of day in seconds since 1970; it may be set at any moment, either way."""
    return time.time()


def seconds_since_boot() -> float:
    """Return seconds that nobody sets; other than monotonic ones they count sleep of the machine.

    On macOS it is the C library's monotonic clock that does so, and Python's that does not.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def monotonic() -> float:
    """Return seconds that never jump; only differences mean anything."""
    return time.monotonic()
