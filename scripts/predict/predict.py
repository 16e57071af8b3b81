"""The command: what is asked for is checked, all images are worked through, and what became of them is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import InputError, printable
from scripts.predict.places import checked_out, common_root
from scripts.predict.settings import checked_settings

if TYPE_CHECKING:
    from scripts.predict.images import Outcome

__all__ = ["predict"]


def predict(
    bundle: str | Path,
    *images: str | Path,
    out: str | Path,
    weights: str | Path | None = None,
    maps: bool = False,
    render: str | None = None,
    render_parameters: Mapping[str, float | None] | None = None,
    strict: bool = False,
    picture: bool = False,
    announce: Callable[[str], object] | None = None,
    **settings: Any,
) -> Outcome:
    """Run a bundle's ``configs/inference.json`` on images.

    It does what ``python -m monai.bundle run`` does with that config and these settings; those that are not
    given stay as the config, or what is known of the weights, has them. Images of one name in different folders get
    folders of their own. An image that cannot be used does not stop the others; ``<out>/predictions.csv`` tells what
    became of each.

    Args:
        bundle: pretrain_seqinv, ixi_seg, arc_lesion or ixi_denoise, or the folder of a bundle.
        images: see `scripts.io.image_list.find_images`.
        out: folder for the results.
        weights: file of the network's weights, or a folder with some, such as that of a demo
            (`scripts.weights.provenance.weights_file`); default: the ``models/model.pt`` of the bundle, or, where that
            was never trained, the network that comes with it (`scripts.weights.shipped`).
        maps: quantitative maps in place of an embedding, by the overlay ``inference_maps.json``.
        render: also the head in this sequence, one of `scripts.physics.rendering.RENDERED`, simulated from its maps.
        render_parameters: of that sequence, in s and degrees; those that are None take typical values.
        strict: stop at the first image that cannot be used.
        picture: also draw the results into ``<out>/predictions.png``, see `scripts.predict.picture`.
        announce: is given a line that says what will be done, before the seconds that loading takes.
        settings: of ``inference.json``, where None and False leave the config's: ``spacing`` that the network sees
            [mm], or ``none`` for the image's own; ``features``, its widths; ``patch_size`` of the windows [voxels],
            best that of the training; ``probabilities`` of the classes; ``device``; ``any_size`` takes what is too
            small or large for a head; ``nan``, ``zero`` or ``error``.

    Raises:
        InputError: for whatever of this does not fit, before anything is computed; for a single image, or if
            ``strict``, also for the image.
    """
    from scripts.io.image_list import find_images

    began = time.monotonic()
    chosen_parameters = {name: value for name, value in (render_parameters or {}).items() if value is not None}
    if render is None and chosen_parameters:
        raise InputError(f"--{next(iter(chosen_parameters))} says how to render: name a sequence, --render flair")
    if render is not None:
        from scripts.physics.rendering import rendered_protocol  # it takes seconds

        rendered_protocol(render, chosen_parameters)
        settings = {**settings, "render": render, "render_parameters": chosen_parameters}
    given = {name: value for name, value in settings.items() if value is not None and value is not False}
    place = checked_out(Path(out), images)
    wanted = checked_settings(bundle, weights, given, maps=maps or render is not None)
    files = list({path.resolve(): path for path in find_images(images)}.values())
    chosen: dict[str, Any] = {**wanted.settings, "output_dir": str(place)}
    root = common_root(files)
    if root is not None:
        if "data_root_dir" not in wanted.config:
            raise InputError("several images share their name: predict them one by one, each into a folder of its own")
        chosen["data_root_dir"] = root
    if announce is not None:
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        announce(printable(f"{wanted.folder.name}: {', '.join(path.name for path in files[:3])}{more}, to {place}"))
        for line in wanted.remarks:
            announce(printable(line))
    from scripts.predict.images import predict_images  # after the announcement, as it takes seconds

    outcome = predict_images(wanted, chosen, files, place, strict=strict or len(files) == 1)
    if picture:
        from scripts.predict.picture import draw_predictions

        outcome.picture = draw_predictions(outcome.rows, place, wanted.config.get("classes") or {})
    outcome.seconds = time.monotonic() - began
    return outcome
