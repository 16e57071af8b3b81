"""Commands that tell of what was trained, and hand it on."""

from __future__ import annotations

from scripts.tasks import TASKS

__all__ = ["export_encoder", "label", "package", "weights"]


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
    from scripts.weights.listing import describe_weights

    print(describe_weights(out))


def label(
    studies: str,
    bundles: str | tuple[str, ...] = ",".join(TASKS),
    port: int = 8000,
    host: str = "127.0.0.1",
    weights: str | None = None,
    app: str | None = None,
    token: str | None = None,
    allowed_hosts: str | tuple[str, ...] = (),
    max_upload_gb: float = 2.0,
) -> None:
    """Serve bundles by MONAI Label, for 3D Slicer and other clients, until Ctrl-C.

    Args:
        studies: folder of the images (NIfTI, NRRD, MetaImage).
        bundles: names, or paths of archives that `package` made, joined by commas.
        port: of the server.
        host: address that it listens at; the default is this machine alone.
        weights: folder of a demo, or a weights file; default: models/model.pt of each bundle.
        app: folder for the server's copies, weights and logs; default: label_app beside studies.
        token: that clients have to send, as a password or a bearer token; default: none where the server is reached
            from this machine alone, else one that it makes and prints.
        allowed_hosts: further names by which clients reach the server, joined by commas.
        max_upload_gb: most that one request may send [GB].
    """
    from scripts.label.serve import serve

    serve(
        studies,
        _words(bundles),
        app=app,
        weights=weights,
        host=str(host),
        port=port,
        token=None if token is None else str(token),
        allowed_hosts=_words(allowed_hosts),
        max_upload_gb=max_upload_gb,
    )


def _words(given: str | tuple[str, ...]) -> list[str]:
    words = given.split(",") if isinstance(given, str) else [str(word) for word in given]
    return [word.strip() for word in words if word.strip()]
