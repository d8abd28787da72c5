"""What is the daemon's own, known by device and inode: a path that leads elsewhere now is lost.

Nobody's task is to blame for it, and nothing is written to what lies there instead.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from alluvium_like.errors import PlaceLost


@dataclass(frozen=True, slots=True)
class Place:
    """One file or folder, as it was when the daemon opened it. All functions block."""

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "Place":
        """Return what lies at `path` now. Raises OSError."""
        facts = path.stat()
        return cls(path, facts.st_dev, facts.st_ino)

    def require(self) -> None:
        """Raise PlaceLost where the path leads elsewhere, or to what may not be used any more."""
        try:
            facts = self.path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PlaceLost(f"{self.path}: was moved away or removed under the daemon") from error
        except PermissionError as error:
            raise PlaceLost(f"{self.path}: cannot be reached: {error.strerror}") from error
        if (facts.st_dev, facts.st_ino) != (self.device, self.inode):
            raise PlaceLost(f"{self.path}: was replaced by another one under the daemon")
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise PlaceLost(f"{self.path}: the daemon may not read and write it any more")

    def is_there(self) -> bool:
        """Tell whether the path still leads to it."""
        try:
            facts = self.path.lstat()
        except OSError:
            return False
        return (facts.st_dev, facts.st_ino) == (self.device, self.inode)

    def remove(self) -> None:
        """Delete it, a file, if it is still there. Raises OSError."""
        if self.is_there():
            self.path.unlink(missing_ok=True)
