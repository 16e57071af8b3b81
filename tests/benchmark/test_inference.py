from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.benchmark.inference import benchmark
from scripts.errors import InputError

TINY = (4, 4, 8, 8, 8, 4)


@pytest.fixture
def head(tmp_path: Path) -> str:
    voxels = np.zeros((60, 40, 40), np.float32)
    x, y, z = np.meshgrid(np.linspace(-1, 1, 56), *[np.linspace(-1, 1, 34)] * 2, indexing="ij")
    ball = x**2 + y**2 + z**2 <= 1.2
    voxels[2:58, 3:37, 3:37] = np.random.default_rng(0).uniform(500, 900, ball.shape) * ball
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "head.nii.gz")
    return str(tmp_path / "head.nii.gz")


@pytest.mark.parametrize(("size", "windows"), [(None, 3 * 2 * 2), (32, 1), ([64, 32, 32], 3)])
def test_counts_windows_and_ends_with_the_ratio(
    head: str, capsys: pytest.CaptureFixture[str], size: int | list[int] | None, windows: int
) -> None:
    ratio = benchmark(head, TINY, patch_size=32, size=size, repeats=1, device="cpu")
    told = capsys.readouterr().out.splitlines()
    assert f"windows {windows}, of which {windows} hold head and are run, 1 at once" in told
    assert told[-1] == f"ratio {ratio:.2f}"
    assert ratio > 0


def test_refuses_numbers_that_do_not_fit(head: str) -> None:
    with pytest.raises(InputError, match="need six features"):
        benchmark(head, TINY[:5])
    with pytest.raises(InputError, match="sizes >= 1"):
        benchmark(head, TINY, size=[32, 32])
