"""Which file systems lie elsewhere: changes made there by others raise no events here.

The mount table is asked, on Linux and macOS alike. The names are those that the kernels use; what
runs in user space (`fuse.…`) may lie anywhere, so it counts too.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_NETWORK_TYPES: Final = frozenset(
    {"9p", "afpfs", "afs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "webdav"}
)


def network_type(folder: Path) -> str:
    """Return the type of the file system that holds `folder` where that lies elsewhere, else ""."""
    kind = type_of(folder)
    return kind if is_network(kind) else ""


def type_of(folder: Path) -> str:
    """Return the type of the file system that holds `folder`, "" when the system does not say."""
    import psutil

    mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    return innermost(Path(os.path.realpath(folder)), mounts)


def is_network(kind: str) -> bool:
    """Tell whether file systems of this type may be changed from elsewhere."""
    return kind in _NETWORK_TYPES or kind == "fuse" or kind.startswith("fuse.")


def innermost(path: Path, mounts: Iterable[tuple[str, str]]) -> str:
    """Return the type of the innermost of `mounts` (mount point, type) that holds `path`."""
    holding = [(point, kind) for point, kind in mounts if path.is_relative_to(point)]
    # Of two mounts on one point the later one hides the earlier, and `max` takes the first it sees.
    return max(reversed(holding), key=lambda mount: len(mount[0]))[1] if holding else ""
