"""Check of a config: its data, its model, and one step of its training."""

import math
from dataclasses import replace

from cgeartheye.commands.tasks import build
from cgeartheye.config import Config, Normalization
from cgeartheye.data.checks import findings
from cgeartheye.data.checks.findings import Finding
from cgeartheye.models import backbone
from cgeartheye.models.backbone.checkpoint_io import read_weights_metadata
from cgeartheye.tasks import model_io
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.training import distributed
from cgeartheye.utils.console import bar, log_info, show
from cgeartheye.utils.errors import UserError


def check(config: Config) -> bool:
    """Examine a config: its data, its model, and one step of its training.

    What was found is printed; `check.json` and a contact sheet are written.

    Args:
        config: of the run.

    Returns:
        Whether nothing is wrong.
    """
    assert config.work_dir is not None
    normalization = config.backbone.normalization
    path = backbone.weights_file(config.backbone)
    if normalization is None and path:
        facts = read_weights_metadata(path)
        if facts.mean and facts.std:
            normalization = Normalization(mean=facts.mean, std=facts.std)
    pipeline = pipeline_for(config)
    with bar("examining", 1, "images") as progress:
        result = pipeline.check(normalization or Normalization(), progress.reach)
    result = replace(result, findings=[*result.findings, *_dry_run(pipeline, result.ok)])
    for part in findings.render(result).renderables:
        show(part, soft_wrap=True)
    findings.write(result, config.work_dir / "check")
    log_info(
        f"{'' if result.is_empty else 'contact sheet and '}every example: "
        f"{config.work_dir / 'check'}"
    )
    return result.ok


def _dry_run(pipeline: TaskPipeline, data_are_right: bool) -> list[Finding]:
    """Build the model and let it take a step, as far as the data let it."""
    config = pipeline.config
    try:
        with distributed.process_group(config.training.device) as device:
            if not data_are_right:
                backbone.build(config.backbone, model_io.input_side(config))
                sentence = "the backbone is built; no step was tried, as the data are not right"
                return [Finding("skipped", sentence)]
            task, built = build(config, pipeline.classes, device)
            assumed = pipeline.assumed_gsd(built)
            loss, images = pipeline.try_step(task, built)
    except UserError as error:
        return [Finding("error", f"the model cannot be trained: {error}")]
    findings = [Finding("warning", assumed)] if assumed else []
    count = sum(parameter.numel() for parameter in task.parameters())
    sentence = f"the model ({count:,} parameters) takes a step on {images} images: loss {loss:.3f}"
    if not math.isfinite(loss):
        sentence += "; lower training.lr, or set training.precision=fp32"
        return [*findings, Finding("error", sentence)]
    return [*findings, Finding("ok", sentence)]
