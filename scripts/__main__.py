"""Commands of the project: ``python -m scripts <command>``; each says ``--help``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import fire

from scripts.errors import InputError, find_input_error
from scripts.switches import is_given


def cohort_qmri(out: str, subjects: int = 51, seed: int = 0, spacing: float = 1.0) -> None:
    """Make the embedded cohort of quantitative maps: a BIDS derivative of simulated anatomy.

    Args:
        out: folder to make; an interrupted one is continued.
        subjects: how many; 22 of 51 are healthy, the others have a stroke lesion.
        seed: the same seed makes the same bytes.
        spacing: voxel size [mm].
    """
    from scripts.data.cohort.qmri import cohort_qmri as make

    make(out, subjects, seed, spacing)


def cohort_ixi(
    out: str, guys: int = 20, hh: int = 4, iop: int = 4, seed: int = 0, spacing: float | None = None
) -> None:
    """Make the embedded IXI cohort: simulated whole heads of three sites, named as IXI's, with tissue maps.

    Args:
        out: folder to make; an interrupted one is continued.
        guys: subjects of Guy's Hospital (1.5 T).
        hh: subjects of Hammersmith Hospital (3 T).
        iop: subjects of the Institute of Psychiatry (1.5 T).
        seed: the same seed makes the same bytes.
        spacing: isotropic voxel size [mm]; default: IXI's own grids.
    """
    from scripts.data.cohort.ixi import cohort_ixi as make

    make(out, guys, hh, iop, seed, spacing)


def cohort_arc(out: str, subjects: int = 30, seed: int = 0, spacing: float | None = None) -> None:
    """Make the embedded ARC cohort: simulated heads with chronic stroke lesions, as BIDS like ds004884.

    Args:
        out: folder to make; an interrupted one is continued.
        subjects: how many.
        seed: the same seed makes the same bytes.
        spacing: isotropic voxel size [mm]; default: 1 mm (FLAIR 0.9 mm).
    """
    from scripts.data.cohort.arc import cohort_arc as make

    make(out, subjects, seed, spacing)


def benchmark_views(
    repeats: int = 7, patch_size: int = 96, batch_size: int = 8, memory: bool = True, device: str = "auto"
) -> None:
    """Time the views side by side with the same job composed of stock MONAI transforms; ends with ``ratio N.N``.

    Args:
        repeats: measurements of each, in turn; medians are told.
        patch_size: side of a view [voxels].
        batch_size: anatomies of a batch of ours.
        memory: also compare the peak memory with 4 and with 64 subjects.
        device: where ours runs: auto, cpu or cuda.
    """
    from scripts.benchmark.views import benchmark

    benchmark(repeats=repeats, patch_size=patch_size, batch_size=batch_size, memory=memory, device=device)


def benchmark_inference(
    image: str | None = None,
    features: tuple[int, ...] = (64, 128, 256, 512, 768, 32),
    patch_size: int = 96,
    overlap: float = 0.5,
    windows_at_once: int = 1,
    size: int | None = None,
    repeats: int = 3,
    device: str = "auto",
) -> None:
    """Time inference of a head against the bare forward passes that it needs; ends with ``ratio N.NN``.

    Args:
        image: NIfTI file; default: a simulated head at 1 mm.
        features: widths of the network.
        patch_size: side of a window [voxels].
        overlap: share of a window that the next may overlap.
        windows_at_once: windows per forward pass.
        size: side of the part in the middle of the head that is taken [voxels]; default: all of it.
        repeats: measurements of each, in turn; medians are told.
        device: auto, cpu or cuda.
    """
    from scripts.benchmark.inference import benchmark

    benchmark(image, features, patch_size, overlap, windows_at_once, size, repeats, device)


def predict(
    bundle: str,
    *images: str,
    out: str,
    weights: str | None = None,
    spacing: float | str | None = None,
    features: tuple[int, ...] | None = None,
    patch_size: int | None = None,
    probabilities: bool = False,
    device: str | None = None,
) -> None:
    """Apply a trained bundle to NIfTI files: segment, denoise or embed them, on their own grids.

    Args:
        bundle: ixi_seg, arc_lesion, ixi_denoise or pretrain_seqinv, or the folder of a bundle.
        images: files, or folders of files.
        out: folder for the results.
        weights: file of the network; default: models/model.pt of the bundle.
        spacing: voxel size that the network sees [mm], or none for the image's own.
        features: widths of a network that is not of the default size.
        patch_size: side of the windows [voxels], best that of the patches in training.
        probabilities: also write the probabilities of the classes.
        device: such as cpu or cuda:1; default: a GPU if there is one.
    """
    from scripts.predict import predict as run

    print(
        run(
            bundle,
            *images,
            out=out,
            weights=weights,
            spacing=spacing,
            features=features,
            patch_size=patch_size,
            probabilities=probabilities,
            device=device,
        )
    )


def demo(
    out: str = "demo",
    seed: int = 0,
    subjects: int | None = None,
    max_epochs: int | None = None,
    tasks: str | tuple[str, ...] = "ixi_seg,arc_lesion,ixi_denoise",
    task_epochs: int | None = None,
    heads: int = 20,
) -> None:
    """Pretrain a small encoder, train the three tasks on it frozen, and measure all, in some 20 minutes.

    Args:
        out: folder for the cohorts, the weights, the pictures and the tables.
        seed: of cohorts, weights, views and patches.
        subjects: size of the pretraining's cohort; default: that of its demo.json.
        max_epochs: length of the pretraining; default: that of its demo.json.
        tasks: which tasks, joined by commas; none leaves them out.
        task_epochs: length of each task's training; default: that of its demo.json.
        heads: simulated heads of the site that is trained on.
    """
    from scripts.demo import run_demo

    chosen = tasks.split(",") if isinstance(tasks, str) else tasks
    run_demo(
        out,
        seed=seed,
        subjects=subjects,
        max_epochs=max_epochs,
        tasks=[name.strip() for name in chosen if is_given(name)],
        task_epochs=task_epochs,
        heads=heads,
    )


def compare(out: str, max_epochs: int = 30, seed: int = 0, page: str | None = None) -> None:
    """Pretrain Base, SeqAug and SeqInv alike with the demo's network and measure all; continues what was begun.

    Args:
        out: folder for all of it.
        max_epochs: length of each pretraining, in epochs of the demo.
        seed: of cohort, weights and views.
        page: Markdown file to write; default: RESULTS.md in ``out``.
    """
    from scripts.compare import compare_variants

    print(compare_variants(out, max_epochs=max_epochs, seed=seed, page=page))


def gallery(out: str, dataset_dir: str, subjects: int = 2, height: float = 0.45) -> None:
    """Draw typical contrasts simulated from a dataset's maps, an axial slice per subject and contrast.

    Args:
        out: PNG to write.
        dataset_dir: a BIDS derivative of quantitative maps, or an embedded cohort.
        subjects: rows of the picture.
        height: position of the slice, from 0 (lowest brain voxel) to 1 (highest).
    """
    from scripts.gallery import draw_gallery

    print(draw_gallery(out, dataset_dir, subjects, height))


COMMANDS: dict[str, Any] = {
    "cohort": {"qmri": cohort_qmri, "ixi": cohort_ixi, "arc": cohort_arc},
    "benchmark": {"inference": benchmark_inference, "views": benchmark_views},
    "compare": compare,
    "demo": demo,
    "gallery": gallery,
    "predict": predict,
}


def check_options(words: Sequence[str]) -> None:
    """Refuse options that a command does not have: fire would run the command first and complain afterwards.

    Raises:
        InputError: for the first unknown ``--option``.
    """
    command: Any = COMMANDS
    for word in words:
        if isinstance(command, dict):
            command = command.get(word, {})
            continue
        if word == "--":  # what follows are options of fire
            return
        option = word.removeprefix("--").split("=")[0].replace("-", "_")
        known = [*inspect.signature(command).parameters]
        if word.startswith("--") and option not in (*known, *(f"no{name}" for name in known), "help"):
            raise InputError(f"unknown option {word}: use {', '.join(f'--{name}' for name in known)}")


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 1."""
    try:
        check_options(sys.argv[1:])
        fire.Fire(COMMANDS, name="python -m scripts")
    except Exception as error:
        cause = find_input_error(error)
        if not isinstance(cause, InputError):
            raise
        sys.exit(f"error: {cause}")


if __name__ == "__main__":
    main()
