"""Commands that hand on what was trained."""

from __future__ import annotations

__all__ = ["package"]


def package(name: str, out: str = "dist", weights: str | None = None) -> None:
    """Make self-contained archives of bundles, which run wherever they are unpacked.

    Args:
        name: pretrain_seqinv, ixi_seg, arc_lesion, ixi_denoise, or all.
        out: folder for <name>.zip.
        weights: a weights file, or the folder of a demo; default: models/model.pt of each bundle, if there
            is one; none leaves them out.
    """
    from scripts.package import package_bundles

    for made in package_bundles(name, out, weights):
        print(made)
    print(
        "unpack one anywhere and type there, inside of its folder: "
        "python -m monai.bundle run --config_file configs/inference.json --image FILE\n"
        "or from elsewhere, with the path of the config; docs/README.md in it has the rest"
    )
