"""The encoder as ONNX, with free batch and image sizes."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.networks import Encoder

__all__ = ["OPSET", "read_onnx", "write_onnx"]

OPSET = 18
"""Version of ONNX's operators: the lowest that torch's exporter writes without converting."""

_AXES = ("i", "j", "k")


def write_onnx(encoder: Encoder, path: Path, config: Mapping[str, Any]) -> None:
    """Write an encoder as ONNX: ``image`` (batch, C, 16 i, 16 j, 16 k) -> ``features`` (batch, channels, i, j, k).

    The config goes into the model's metadata; what torch notes of source files there is taken out.

    Raises:
        InputError: the installed onnxscript is too old for the installed torch.
    """
    import onnx

    dim = torch.export.Dim
    stride = encoder.stride
    free = {0: dim("batch"), **{2 + n: stride * dim(name) for n, name in enumerate(_AXES)}}
    example = torch.zeros(2, config["in_channels"], 2 * stride, 3 * stride, 4 * stride)
    try:
        with _quiet():
            program = torch.onnx.export(
                encoder,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["features"],
                dynamic_shapes={"x": free},
                verbose=False,
            )
    except ImportError as error:
        raise InputError(
            f"torch {torch.__version__} cannot write ONNX with the onnxscript that is installed ({error}): type "
            "`pip install --upgrade onnxscript`"
        ) from error
    if program is None:
        raise RuntimeError("torch returned no ONNX program")
    model = program.model_proto
    _clean(model)
    for value, names in ((model.graph.input[0], [f"{stride}*{n}" for n in _AXES]), (model.graph.output[0], _AXES)):
        sizes = value.type.tensor_type.shape.dim
        for size, name in zip([sizes[0], *sizes[2:]], ["batch", *names], strict=True):
            size.dim_param = name
    onnx.helper.set_model_props(model, {"config": json.dumps(config, ensure_ascii=False)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def read_onnx(path: Path, _config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return the network in a file, run by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    return call


def _clean(model: Any) -> None:
    """Take out of a model what names source files and modules of this machine."""
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about itself and about packages that are not needed from a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
