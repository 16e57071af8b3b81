"""Files that can be downloaded: where they lie and which bytes they must have."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scripts.errors import InputError

__all__ = ["IXI", "Remote", "ixi_remotes"]

_OFFICIAL = "biomedic.doc.ic.ac.uk/brain-development/downloads/IXI"
_T1_MIRROR = "https://developer.download.nvidia.com/assets/Clara/monai/tutorials/IXI-T1.tar"


@dataclass(frozen=True)
class Remote:
    """A file to download.

    Attributes:
        name: under which it is saved.
        urls: addresses of the same bytes, tried in turn.
        size: at most so many [bytes], for the check of space; None if unknown. The server tells the exact size.
        md5: hexadecimal sum of the content, None if unknown.
        sha256: likewise.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


def _ixi(kind: str, size: float, md5: str, sha256: str, mirrors: tuple[str, ...] = ()) -> Remote:
    name = f"IXI-{kind}.tar"
    urls = (f"https://{_OFFICIAL}/{name}", *mirrors, f"http://{_OFFICIAL}/{name}")
    # sizes are published in rounded GB, which some count as 2^30 bytes: the larger reading is safe for the space
    return Remote(name, urls, round(size * 2**30), md5, sha256)


IXI = {
    "T1": _ixi(
        "T1",
        4.51,
        "34901a0593b41dd19c1a1f746eac2d58",
        "56bbe911fbe967f7d1b830a552995263bdba281e0a6eb78e62f1c38d88a946a9",
        (_T1_MIRROR,),
    ),
    "T2": _ixi(
        "T2",
        3.59,
        "e3140d78730ecdd32ba92da48c0a9aaa",
        "39af50f87be8f7d0be2f166a64f5f59b5e43577255eb5613553dae37c348c2e4",
    ),
    "PD": _ixi(
        "PD",
        3.79,
        "88ecd9d1fa33cb4a2278183b42ffd749",
        "c00124d2409b68f9800938ede547cff71cafb0d51e19bd5138d85a4c4e144130",
    ),
}
"""The images of IXI, one tar file a kind (https://brain-development.org/ixi-dataset/)."""


def ixi_remotes(mirror: str | None = None) -> dict[str, Remote]:
    """Return the tar files of IXI by kind: T1, T2, PD.

    Args:
        mirror: address of a folder that holds them, asked instead of the official server.

    Raises:
        InputError: if the mirror is no web address.
    """
    if mirror is None:
        return dict(IXI)
    if not str(mirror).startswith(("https://", "http://")):
        raise InputError(f"mirror={mirror!r} is no web address: type --mirror https://SERVER/FOLDER")
    base = str(mirror).rstrip("/")
    return {kind: replace(remote, urls=(f"{base}/{remote.name}",)) for kind, remote in IXI.items()}
