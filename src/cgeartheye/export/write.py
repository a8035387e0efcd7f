"""Writes an exported model: a folder with the graph and a `model.json` like that of a run.

torch     model.safetensors with the backbone inside, in the precision that is asked for
onnx      model.onnx
openvino  model.xml and model.bin
"""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgeartheye import __version__
from cgeartheye.config import Config, to_yaml
from cgeartheye.export.graph import OPSET, OUTPUTS, inputs_of, write_onnx
from cgeartheye.inference.engines.base import missing_extra
from cgeartheye.models.backbone.checkpoint_io import save_tensors
from cgeartheye.tasks import model_io
from cgeartheye.tasks.exports import FACTS, WEIGHTS, Export
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest, write_json, write_text
from cgeartheye.utils.state import json_object

PRECISIONS = {
    "torch": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "fp16", "int8"),
}
"""In which each engine computes on CPUs; OpenVINO's fp16 is of the file, computed in float32."""


def refuse_precision(engine: str, precision: str) -> None:
    """Refuse what an engine does not have.

    Raises:
        UserError: naming what it has.
    """
    if engine not in PRECISIONS:
        raise UserError(f"--format {engine} is unknown: give one of {', '.join(PRECISIONS)}")
    if precision not in PRECISIONS[engine]:
        raise UserError(
            f"{engine} has no {precision} on CPUs: give one of {', '.join(PRECISIONS[engine])}"
        )


def export_model(
    task: Any,
    config: Config,
    model: model_io.Model,
    engine: str,
    precision: str,
    folder: Path,
    windows: Tensor | None = None,
) -> Export:
    """Write a trained model for an engine.

    Args:
        task: built of the model, on the CPU; LoRA's matrices are merged into its weights.
        config: that it was built with.
        model: the run's files.
        engine: `torch`, `onnx` or `openvino`.
        precision: of `PRECISIONS`.
        folder: for the files; what an older export left in it is replaced.
        windows: for int8, uint8 `[N, C, S, S]` as the network will see them.

    Returns:
        What was written.

    Raises:
        UserError: libraries that are not installed, or a file that cannot be written.
    """
    refuse_precision(engine, precision)
    assert precision != "int8" or windows is not None
    description, side = folder / FACTS, config.data.image_size
    _claim(folder)
    try:
        if engine == "torch":
            paths = [_write_torch(task, precision, folder)]
        elif engine == "onnx":
            paths = _write_onnx(task, config, side, folder, windows)
        else:
            paths = _write_openvino(task, config, side, precision, folder, windows)
    except ImportError as error:
        raise missing_extra(engine) from error
    export = Export(
        folder,
        engine,
        precision,
        tuple(path.name for path in paths),
        digest(paths),
        digest([model.path]),
    )
    own = _self_contained(config, precision if engine == "torch" else "fp32", folder)
    facts = json.loads((model.path.parent / FACTS).read_text(encoding="utf-8"))
    facts |= {
        "backbone_fingerprint": None,
        "config": own.model_dump(mode="json"),
        "export": export.facts() | {"cgeartheye": __version__},
    }
    if engine != "torch":
        channels = "uint8 [batch, 3, side, side], red, green, blue, 0..255"
        facts["export"] |= {
            "inputs": dict.fromkeys(inputs_of(config.task), channels),
            "outputs": list(OUTPUTS[config.task]),
            "side": side,
            "batch": "any",
            "opset": OPSET,
        }
    write_text(folder / "config.yaml", to_yaml(own))
    write_json(description, facts)
    return export


def _claim(folder: Path) -> None:
    """Make the folder of an export, and drop what describes an older one: until all is there,
    nothing is.

    Raises:
        UserError: it holds a model that is no export, or cannot be written to.
    """
    description, before = folder / FACTS, None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if description.exists():
            with suppress(ValueError):  # what is damaged is of no use
                before = json_object(description.read_bytes())
            if before is not None and "export" not in before:
                raise UserError(f"{folder} holds a trained model: give another --out")
            description.unlink()
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): give another --out"
        ) from error


def _self_contained(config: Config, precision: str, folder: Path) -> Config:
    """Return the config of a model that needs no other file than its own."""
    changed: dict[str, Any] = {
        "backbone": config.backbone.model_copy(update={"weights": "random"}),
        "training": config.training.model_copy(update={"precision": precision}),
        "work_dir": folder,
    }
    if config.task == "change_detection":
        changed["decoder"] = config.decoder.model_copy(update={"side_weights": None})
    return config.model_copy(update=changed)


def _write_torch(task: Any, precision: str, folder: Path) -> Path:
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    tensors = {
        name: x.to(kinds[precision]) if x.is_floating_point() else x
        for name, x in task.state_dict().items()
    }
    path = folder / WEIGHTS
    save_tensors(path, tensors, {"format": str(model_io.FORMAT)})
    return path


def _write_onnx(
    task: Any, config: Config, side: int, folder: Path, windows: Tensor | None
) -> list[Path]:
    path = folder / "model.onnx"
    if windows is None:
        return write_onnx(task, config.task, side, path)
    from cgeartheye.export.quantize import quantize_onnx

    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "graph.onnx"
        write_onnx(task, config.task, side, plain)
        quantize_onnx(plain, path)
    return [path]


def _write_openvino(
    task: Any,
    config: Config,
    side: int,
    precision: str,
    folder: Path,
    windows: Tensor | None,
) -> list[Path]:
    from cgeartheye.inference.engines.openvino import openvino

    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "graph.onnx"
        write_onnx(task, config.task, side, plain)
        model = openvino.convert_model(plain)
        if windows is not None:
            from cgeartheye.export.quantize import quantize_openvino

            model = quantize_openvino(model, windows)
        path = folder / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    return [path, path.with_suffix(".bin")]


def discard(export: Export) -> None:
    """Remove the files of an export that is not to be used."""
    for name in (FACTS, *export.files, "config.yaml"):
        (export.folder / name).unlink(missing_ok=True)
