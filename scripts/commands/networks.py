"""Commands that train, apply, measure and draw."""

from __future__ import annotations

import sys
from functools import partial

from scripts.errors import SOME_FAILED
from scripts.switches import is_given
from scripts.tasks import TASKS

__all__ = ["benchmark_gpu", "benchmark_inference", "benchmark_views", "demo", "gallery", "predict"]


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


def benchmark_gpu(
    minutes: float = 8.0,
    out: str = "gpu.json",
    device: str = "cuda",
    patch_size: int = 96,
    batch_size: int = 8,
    features: tuple[int, ...] = (64, 128, 256, 512, 768),
    spacing: float = 1.0,
    steps: int = 300,
) -> None:
    """Measure what one GPU makes of the full-size pretraining and of inference, within some minutes.

    Args:
        minutes: time for all; a part that does not fit any more is left out and named.
        out: JSON file to write, after each part.
        device: where; cpu tries the command itself.
        patch_size: side of the views [voxels].
        batch_size: anatomies a step, two views each.
        features: widths of the encoder.
        spacing: voxel size of the simulated maps [mm].
        steps: training steps whose loss is followed.
    """
    from scripts.benchmark.gpu import benchmark

    benchmark(
        minutes,
        out,
        device=device,
        patch_size=patch_size,
        batch_size=batch_size,
        features=tuple(features),
        spacing=spacing,
        steps=steps,
    )


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
    maps: bool = False,
    render: str | None = None,
    tr: float | None = None,
    te: float | None = None,
    ti: float | None = None,
    flip_angle: float | None = None,
    tx: float | None = None,
    n: int | None = None,
    efficiency: float | None = None,
    residual_limit: float | None = None,
    spacing: float | str | None = None,
    features: tuple[int, ...] | None = None,
    patch_size: int | None = None,
    probabilities: bool = False,
    device: str | None = None,
    any_size: bool = False,
    nan: str | None = None,
    strict: bool = False,
    picture: bool = False,
) -> None:
    """Apply a trained bundle to images: segment, denoise, embed or map them, on their own grids.

    Exit status 3: some images could not be used; predictions.csv in the folder of the results tells why.

    Args:
        bundle: ixi_seg, arc_lesion, ixi_denoise or pretrain_seqinv, or the folder of a bundle.
        images: files (NIfTI, NRRD, MetaImage), folders of such, or folders with one DICOM series each.
        out: folder for the results.
        weights: file of the network, or the folder of a demo; default: models/model.pt of the bundle.
        maps: of pretrain_seqinv, PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.] in place of an embedding.
        render: also the head in another protocol, simulated from its maps: mprage (TR 2.3, TE 0.003, TI 0.9 s, 9
            degrees), gre (TR 0.025, TE 0.005 s, 20 degrees), gre_mt (TR 0.025, TE 0.005 s, 6 degrees), fse (TR 5, TE
            0.1 s) or flair (TR 9, TE 0.1, TI 2.5 s).
        tr: its repetition time [s].
        te: its echo time [s].
        ti: its inversion time [s].
        flip_angle: its flip angle [degrees].
        tx: time between the pulses of the train of an mprage [s], default 0.006.
        n: their number, default 160.
        efficiency: of the inversion of an mprage, 0 to 1, default 0.96.
        residual_limit: share of a scan's variance that its maps may leave unexplained without a warning, default 0.5.
        spacing: voxel size that the network sees [mm], or none for the image's own.
        features: widths of a network that is not of the default size.
        patch_size: side of the windows [voxels], best that of the patches in training.
        probabilities: also write the probabilities of the classes.
        device: such as cpu or cuda:1; default: a GPU if there is one.
        any_size: also take images that are too small or too large for a head.
        nan: zero sets voxels that are NaN or infinite to 0; default: error, which refuses such images.
        strict: stop at the first image that cannot be used.
        picture: also draw the results, labels outlined on their images, into predictions.png.
    """
    from scripts.predict import predict as run

    outcome = run(
        bundle,
        *images,
        out=out,
        weights=weights,
        maps=maps,
        render=render,
        render_parameters={
            **{"tr": tr, "te": te, "ti": ti, "flip_angle": flip_angle},
            **{"tx": tx, "n": n, "efficiency": efficiency},
        },
        residual_limit=residual_limit,
        spacing=spacing,
        features=features,
        patch_size=patch_size,
        probabilities=probabilities,
        device=device,
        any_size=any_size,
        nan=nan,
        strict=strict,
        picture=picture,
        announce=partial(print, flush=True),
    )
    print(outcome)
    if outcome.failed:
        sys.exit(SOME_FAILED)


def demo(
    out: str = "demo",
    seed: int = 0,
    subjects: int | None = None,
    max_epochs: int | None = None,
    tasks: str | tuple[str, ...] = ",".join(TASKS),
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
