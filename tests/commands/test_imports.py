"""A command answers at once: what takes seconds to import is imported when it is needed, after the first line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.bundles import BUNDLES, ROOT

SLOW = {"torch", "monai", "mlflow", "ignite", "pandas", "matplotlib", "sklearn", "skimage", "nilearn"}
# run in place of `python -m scripts`: tells which modules were there when it ended
CODE = """
import atexit, sys
from scripts.__main__ import main
atexit.register(lambda: print("imported", *sys.modules, file=sys.stderr))
main()
"""
MISSING = "predict", "ixi_seg", "none.nii.gz", "--out", "out"
WRONG_SIDE = "predict", "ixi_seg", "image.nii.gz", "--out", "out", "--patch_size", "50"


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("--help",), "COMMANDS", 0),
        (("predict", "--help"), "Apply a trained bundle to images", 0),
        (("weights",), "pretrain_seqinv", 0),
        (("galery",), "Usage:", 2),
        (("predict", "--nope"), "error: unknown option --nope", 1),
        (MISSING, "error: none.nii.gz does not exist", 1),
        (WRONG_SIDE, "error: patch_size=50 is out of bounds: give a multiple of 16", 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_no_slow_package_is_imported(words: tuple[str, ...], said: str, status: int, tmp_path: Path) -> None:
    if words == ("weights",) and any(BUNDLES.glob("*/models/model.pt")):
        pytest.skip("this checkout has weights, which torch reads")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "image.nii.gz")
    environment = {"PYTHONPATH": str(ROOT), "PAGER": "cat", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    imported = {name.partition(".")[0] for name in done.stderr.rpartition("imported ")[2].split()}
    assert "fire" in imported
    assert imported & SLOW == set()
