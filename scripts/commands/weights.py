"""Commands about weights: what there are, and the encoder for other programs."""

from __future__ import annotations

__all__ = ["export_encoder", "weights"]


def export_encoder(
    format: str | tuple[str, ...] = "safetensors",  # noqa: A002
    weights: str | None = None,
    out: str = "exports/encoder",
) -> None:
    """Write the pretrained encoder as a folder for other programs: weights, config.json, model card, licence.

    Args:
        format: safetensors, torchscript, onnx or pt; several joined by commas.
        weights: file of weights, the published ones too, or folder of a bundle, demo or run; default: those of
            bundles/pretrain_seqinv.
        out: folder to make; an earlier export there is replaced.
    """
    from scripts.export import export_encoder as export

    print(export(format, out, weights))


def weights(out: str | None = None) -> None:
    """Tell of each bundle which weights there are, how they were trained, how good they are; or how to make them.

    Args:
        out: folder of a demo or an experiment, to tell of its weights as well.
    """
    from scripts.weights import tell_weights

    print(tell_weights(out))
