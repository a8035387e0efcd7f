"""A trained model exported for another engine, or in fewer bits."""

from pathlib import Path
from typing import Any

import torch

from cgeartheye.commands import tasks
from cgeartheye.config.loader import override
from cgeartheye.export import export_model, record_windows, refuse_precision
from cgeartheye.export.calibration import agreement
from cgeartheye.export.write import discard
from cgeartheye.tasks import model_io
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError

LARGEST_LOSS = 1.0  # points of the task's figure that int8 may cost
LEAST_AGREEMENT = 0.95  # of int8's answers with float32's, see `agreement`


def export(
    run: Path,
    engine: str,
    precision: str = "fp32",
    calibrate: list[Path] | None = None,
    out: Path | None = None,
    overrides: list[str] | None = None,
) -> Path:
    """Export a trained model.

    int8 is refused where it agrees with float32 on less than 95 % of the calibration's pixels,
    images or boxes, or where it costs more than a point of the task's figure on the data that the
    config names, if these are there.

    Args:
        run: a run directory or its `model.safetensors`.
        engine: `torch`, `onnx` or `openvino`.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        calibrate: for int8 images or folders of them like those to be predicted; of two dates,
            those of one and of the other.
        out: the folder; none: `export/<engine>-<precision>` in the run's.
        overrides: `field=value` for the model's config, e.g. `backbone.weights=FILE`.

    Returns:
        The folder.

    Raises:
        UserError: no model, libraries that are not installed, or int8 without images or that
            loses too much.
    """
    refuse_precision(engine, precision)
    if precision == "int8" and not calibrate:
        raise UserError(
            "int8 needs images to measure the range of activations with: name some hundred like "
            "those to be predicted with --calibrate FOLDER"
        )
    files = model_io.read_model(run)
    if files.export:
        raise UserError(f"{run} is an exported model: name the run that it was made of")
    plain = ["training.device=cpu", "training.precision=fp32", "backbone.compile=false"]
    pipeline = pipeline_for(override(files.config, [*(overrides or []), *plain]))
    folder = out or files.path.parent / "export" / f"{engine}-{precision}"
    device = torch.device("cpu")
    task, built = tasks.restore(pipeline.config, files, device)
    task.eval()
    windows = None
    if precision == "int8":
        assert calibrate
        windows = record_windows(pipeline, task, pipeline.find(calibrate))
        log_info(f"calibrated with {len(windows)} windows")
    written = export_model(task, pipeline.config, files, engine, precision, folder, windows)
    if windows is not None:
        try:
            _refuse_losses(pipeline, (task, built), folder, windows)
        except UserError:
            discard(written)
            raise
    log_info(f"{engine} in {precision}: {folder}")
    return folder


def _is_labelled(pipeline: TaskPipeline) -> bool:
    """Whether the images and labels of the training are here, so that accuracy can be measured."""
    try:
        return len(pipeline.parts.test) > 0
    except UserError as error:
        log_info(f"accuracy is not measured: {error}")
        return False


def _refuse_losses(
    pipeline: TaskPipeline, own: tuple[Any, Any], folder: Path, windows: torch.Tensor
) -> None:
    """Refuse an int8 model that answers otherwise than the float32 one."""
    files = model_io.read_model(folder)
    other, outline = tasks.restore(pipeline.config, files, torch.device("cpu"))
    share = agreement(own[0], other, windows)
    measured: dict[str, float] = {"agreement": share}
    log_info(f"int8 agrees with float32 on {share:.2%}")
    if share < LEAST_AGREEMENT:
        raise UserError(
            f"int8 agrees with float32 on {share:.1%} of the calibration, less than "
            f"{LEAST_AGREEMENT:.0%}: calibrate with images more like those to be predicted, or "
            "export in fp32"
        )
    if _is_labelled(pipeline):
        figure = own[0].monitor
        before = pipeline.test(*own, None, None).figures[figure]
        after = pipeline.test(other, outline, None, None).figures[figure]
        measured |= {figure: after, f"{figure}_fp32": before}
        log_info(f"{figure} {after:.2f}, float32 {before:.2f}, on the {pipeline.tested_part}")
        if before - after > LARGEST_LOSS:
            raise UserError(
                f"int8 costs {before - after:.2f} points of {figure} on the "
                f"{pipeline.tested_part}, more than {LARGEST_LOSS:g}: export in fp32"
            )
    model_io.update_metadata(folder, {"int8": measured})
