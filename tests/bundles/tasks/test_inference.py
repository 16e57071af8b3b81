"""inference.json of every downstream bundle on a head whose voxels are sagittal and oblique."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from monai.bundle import ConfigWorkflow

CLASSES = {"ixi_seg": ["grey matter", "white matter", "CSF"], "arc_lesion": ["lesion"]}


def test_results_lie_on_the_grid_of_the_image(
    trained_task: dict[str, Any],
    heads: dict[str, Path],
    tmp_path: Path,
    task_configs: Callable[[str], Path],
    run_here: Callable[..., ConfigWorkflow],
) -> None:
    bundle = trained_task["bundle"]
    path = min(heads["ixi_seg"].glob("IXI*-T1.nii.gz"))
    image, name = nib.load(path), path.name.removesuffix(".nii.gz")
    settings = {
        "image": str(path),
        "features": trained_task["settings"]["features"],
        "patch_size": 32,
        "ckpt_dir": str(trained_task["folder"] / "models"),
        "output_dir": str(tmp_path),
    }
    if bundle != "ixi_denoise":
        settings |= {"spacing": 4.0, "probabilities": True}
    run_here(["inference.json"], settings, "infer", task_configs(bundle))
    kind = "denoised" if bundle == "ixi_denoise" else "seg"
    written = nib.load(tmp_path / f"{name}_{kind}.nii.gz")
    assert written.shape == image.shape
    np.testing.assert_array_equal(written.affine, image.affine)
    if bundle == "ixi_denoise":
        assert not np.array_equal(written.get_fdata(), image.get_fdata())
        assert np.corrcoef(written.get_fdata().ravel(), image.get_fdata().ravel())[0, 1] > 0.9
        return
    labels = np.asarray(written.dataobj)
    table = pd.read_csv(tmp_path / "volumes.csv").set_index("class")
    assert list(table.index) == CLASSES[bundle]
    voxel = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    for value, tissue in enumerate(CLASSES[bundle], start=1):
        np.testing.assert_allclose(table.loc[tissue, "volume_ml"], (labels == value).sum() * voxel, rtol=1e-3)
    shares = nib.load(tmp_path / f"{name}_probabilities.nii.gz").get_fdata()
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-4)
