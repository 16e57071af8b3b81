"""Label maps of made-up heads, for tests: nested ellipsoids with FreeSurfer's ids."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

STEP = 4.0  # mm


def head_labels(*, whole: bool = True, width: float = 1.0) -> NDArray[np.int16]:
    """Return labels (48, 60, 56) in RAS order, 4 mm; ``width`` scales the brain from left to right."""
    shape = (48, 60, 56)
    x, y, z = np.meshgrid(*(STEP * (np.arange(n) - (n - 1) / 2) for n in shape), indexing="ij")

    def ball(cx: float, cy: float, cz: float, rx: float, ry: float, rz: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1.0
        return inside

    labels = np.zeros(shape, np.int16)
    layers: list[tuple[int, NDArray[np.bool_]]] = []
    if whole:
        head = ball(0, 0, 10, 90, 110, 98) | (np.hypot(x, y + 20) < 60) & (z < 0)
        inner = ball(0, 0, 10, 84, 104, 92) | (np.hypot(x, y + 20) < 54) & (z < 0)
        layers += [(511, head), (507, inner), (515, ball(0, -4, 20, 78, 96, 82))]
        layers += [(24, (np.hypot(x, y + 20) < 12) & (z < 0)), (512, (np.hypot(x, y + 20) < 6) & (z < 0))]
        layers += [(506, ball(side * 32, 88, -10, 13, 13, 13)) for side in (-1, 1)]
        layers += [(0, ball(0, 90, -35, 12, 14, 14))]
    layers += [(24, ball(0, -4, 20, 72 * width, 90, 75))]
    for side, (cortex, white, ventricle, caudate, thalamus) in ((-1, (3, 2, 4, 11, 10)), (1, (42, 41, 43, 50, 49))):
        half = side * x > 0
        layers += [(cortex, ball(0, -4, 24, 68 * width, 86, 68) & half)]
        layers += [(white, ball(0, -4, 24, 58 * width, 76, 58) & half)]
        layers += [(caudate, ball(side * 20, 18, 28, 9, 14, 10)), (thalamus, ball(side * 14, -14, 22, 11, 14, 10))]
        layers += [(ventricle, ball(side * 12, 6, 36, 9, 26, 9) & half)]
    layers += [(25, ball(-36, -20, 40, 7, 9, 7))]  # of the left alone
    layers += [(8, ball(0, -62, -26, 40, 24, 22)), (7, ball(0, -62, -26, 28, 12, 10))]
    layers += [(16, ball(0, -26, -20, 13, 13, 32))]
    for label, inside in layers:
        labels[inside] = label
    return labels


def write_label_map(path: Path, labels: NDArray[np.int16], *, axes: str = "LIA") -> Path:
    """Write labels in RAS order into a file whose axes run as asked for, as float32 a little off the integers."""
    affine = np.diag([STEP, STEP, STEP, 1.0])
    image = nib.Nifti1Image(labels.astype(np.float32) + np.float32(1e-3), affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axes)))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(turn), path)
    return path


def write_people(folder: Path, n: int = 3, *, whole: bool = True) -> Path:
    """Write label maps of some people, each with a brain of another width, and return the folder."""
    for number in range(n):
        labels = head_labels(whole=whole, width=1.0 - 0.08 * number)
        write_label_map(folder / f"person_{number:02d}.nii.gz", labels)
    return folder


def write_lesions(folder: Path, n: int = 4) -> Path:
    """Write masks of lesions in MNI space, 4 mm, growing in size, and a map that is no mask; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.array([[-STEP, 0, 0, 80], [0, STEP, 0, -112], [0, 0, STEP, -50], [0, 0, 0, 1.0]])
    index = np.stack(np.meshgrid(*(np.arange(m) for m in (41, 48, 34)), indexing="ij")).reshape(3, -1)
    world = (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, 41, 48, 34)
    for number in range(n):
        centre = np.array([-40.0, 0.0, 20.0])[:, None, None, None]
        mask = np.linalg.norm(world - centre, axis=0) < 14.0 + 2.0 * number
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / f"sub-{number}_lesion.nii.gz")
    nib.save(nib.Nifti1Image(np.linspace(0, 1, mask.size).reshape(mask.shape), affine), folder / "lesion_mean.nii.gz")
    return folder
