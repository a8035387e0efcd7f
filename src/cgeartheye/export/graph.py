"""A task as one graph: windows as they are read in, probabilities or boxes out."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cgeartheye.models.backbone.lora import merge_lora
from cgeartheye.utils.io import replacing

OPSET = 20  # the first with Gelu, which runtimes fuse
_MOST = 1024  # windows a batch
_LARGEST_FILE = 1_900_000_000  # bytes; protobuf ends at 2 GiB, weights are then beside the graph

OUTPUTS = {
    "scene_classification": ("probabilities", "features"),
    "semantic_segmentation": ("probabilities",),
    "change_detection": ("probabilities",),
    "object_detection": ("boxes", "scores"),
}
"""Names of the outputs, by task."""


class Graph(nn.Module):
    """The computation of an exported model."""

    def __init__(self, task: Any):
        """Take a task.

        Args:
            task: on the CPU; LoRA's matrices are merged into its weights.
        """
        super().__init__()
        merge_lora(task.backbone)
        self.task = task.eval().requires_grad_(False)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Map windows uint8 `[B, 3, S, S]`, one for each date, to the outputs of the task."""
        outputs: tuple[Tensor, ...] = self.task.graph(torch.cat(images, 1))
        return outputs


def inputs_of(task_name: str) -> tuple[str, ...]:
    """Return the names of a graph's inputs, one for each date."""
    return ("before", "after") if task_name == "change_detection" else ("image",)


def write_onnx(task: Any, task_name: str, side: int, path: Path) -> list[Path]:
    """Write a task as an ONNX file, whose batch is of any size.

    Args:
        task: on the CPU.
        task_name: of its config.
        side: pixels a side of its windows.
        path: of the file.

    Returns:
        The files: where a model is too large for one, its weights are in another beside it.

    Raises:
        UserError: the file cannot be written.
        ImportError: onnx or onnxscript are not installed.
    """
    import onnxscript  # noqa: F401  # PyTorch's exporter needs it, and its own error is less clear

    names = inputs_of(task_name)
    example = tuple(torch.zeros(2, 3, side, side, dtype=torch.uint8) for _ in names)
    batch = torch.export.Dim("batch", min=1, max=_MOST)
    dynamic = (tuple({0: batch} for _ in names),)
    graph = Graph(task)
    size = sum(each.nbytes for each in graph.state_dict().values())
    with torch.no_grad():
        # By itself the ONNX exporter would write a graph of a fixed batch where it finds no other.
        program = torch.export.export(graph, example, dynamic_shapes=dynamic, strict=False)
        onnx = torch.onnx.export(
            program,
            input_names=names,
            output_names=OUTPUTS[task_name],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert onnx is not None
    if size > _LARGEST_FILE:
        onnx.save(path, external_data=True)  # refers to the other by its name
        return [path, path.with_name(f"{path.name}.data")]
    with replacing(path) as temporary:
        onnx.save(temporary, external_data=False)
    return [path]
