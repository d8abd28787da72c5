"""Whether the time of day may be believed when ages are counted. Pure: readings in, a verdict out.

A clock that was set to next year makes everything old at one blow. So the time of day is compared
with the time since the boot, which nobody sets and which counts sleep; over a reboot, where there
is no such witness, only with how long the machine may have been off. One that was moved is believed
again when it has gone on steadily for a day: by then whoever sets clocks has set it right.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

_PROBATION: Final = timedelta(days=1)
_HARMLESS: Final = timedelta(hours=1)
_LONGEST_OFF: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one moment: seconds of the time of day and, within `boot_id`, since the boot.

    `believed_from` is a time of day: before it nothing is removed because of its age.
    """

    boot_id: str
    time_of_day: float
    since_boot: float
    believed_from: float = 0.0

    @property
    def is_believed(self) -> bool:
        """Tell whether ages may be counted by the time of day."""
        return self.time_of_day >= self.believed_from


def follow(before: Reading | None, now: Reading) -> tuple[Reading, timedelta]:
    """Return the new reading with what it owes to the last one, and by how much the time of day
    was set in between, which is zero where it went on.
    """
    if before is None:
        return now, timedelta()
    moved = _moved(before, now)
    believed_from = before.believed_from
    if moved:
        believed_from = now.time_of_day + _PROBATION.total_seconds()
    return replace(now, believed_from=believed_from), moved


def _moved(before: Reading, now: Reading) -> timedelta:
    passed = timedelta(seconds=now.time_of_day - before.time_of_day)
    if now.boot_id == before.boot_id:
        moved = passed - timedelta(seconds=now.since_boot - before.since_boot)
        return moved if abs(moved) > _HARMLESS else timedelta()
    return timedelta() if -_HARMLESS <= passed <= _LONGEST_OFF else passed
