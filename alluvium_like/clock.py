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
    return utc_text(datetime.now(UTC) + delay)


def utc_text(moment: datetime) -> str:
    """Write a moment in that form."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def utc_stamp() -> str:
    """Return the time of day as `20260516T101530Z`, as task ids begin."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def time_of_day() -> float:
    """Return the time of day in seconds since 1970; it may be set at any moment, either way."""
    return time.time()


def seconds_since_boot() -> float:
    """Return seconds that nobody sets and that go on while the machine sleeps.

    On macOS that is CLOCK_MONOTONIC, which is not what `time.monotonic` reads there.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def monotonic() -> float:
    """Return seconds that never jump; only differences mean anything."""
    return time.monotonic()
