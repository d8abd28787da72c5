"""Which mounts are polled because others may change them from elsewhere."""

from pathlib import Path

import pytest

from alluvium_like.inbox.mounts import innermost, is_network, network_type, type_of


def test_the_innermost_mount_gives_the_type() -> None:
    mounts = [("/", "ext4"), ("/home", "xfs"), ("/home/me/net", "nfs4"), ("/home", "btrfs")]
    assert innermost(Path("/home/me/net/w"), mounts) == "nfs4"
    assert innermost(Path("/home/me/network"), mounts) == "btrfs"
    assert innermost(Path("/srv"), mounts) == "ext4"
    assert innermost(Path("/srv"), []) == ""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "virtiofs", "fuse", "fuse.sshfs", "smbfs"])
def test_what_others_may_change_from_elsewhere_is_told_from_a_disk(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "btrfs", "xfs", "tmpfs", "overlay", "apfs", "fuseblk", ""]
)
def test_what_only_this_system_changes_is_watched(kind: str) -> None:
    assert not is_network(kind)


def test_the_mount_table_of_this_system_is_asked(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/proc")
    assert type_of(link) == type_of(Path("/proc/self"))
    assert network_type(tmp_path) == ""
