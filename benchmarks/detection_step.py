"""Cost of our detector beside transformers' Deformable DETR and torchvision's Faster R-CNN.

    python benchmarks/detection_step.py [--size tiny] [--side 280] [--batch 2] [--queries 300]
    python benchmarks/detection_step.py --size base --side 784 --queries 900 --device cuda --compile

All stand on the same frozen ViT, whose maps of three layers become four levels of 256 channels.
Deformable DETR has the same queries, levels, channels and layers, two stages and box refinement,
and no custom kernel. A step is forward pass, losses, backward pass and AdamW; a prediction is
the network's output, without post-processing (Faster R-CNN cannot do without its NMS). Rounds take
turns; the times are medians. The second table is the cost of matching in a step, the third the
sampling of deformable attention against `grid_sample` level by level.
"""

import argparse
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

from cgeartheye.config import Backbone, DetectionData, DetectionDecoder, ObjectDetection
from cgeartheye.models.backbone import SIZES, build
from cgeartheye.models.detection.deformable_attention import sample
from cgeartheye.models.detection.matcher import match, pad_targets
from cgeartheye.models.detection.neck import SCALES, ChannelMapper
from cgeartheye.tasks.detection.module import DetectionTask

CLASSES, OBJECTS, CHANNELS = 20, 10, 256


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="tiny", choices=list(SIZES))
    parser.add_argument("--side", type=int, default=280, help="pixels a side")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--layers", type=int, default=6, help="of the encoder, and of the decoder")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true", help="ours: torch.compile every layer")
    given = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(given.device)
    console = Console()
    side = given.side
    images = torch.randint(0, 256, (given.batch, 3, side, side), dtype=torch.uint8, device=device)
    corners = torch.rand(given.batch, OBJECTS, 2, 2, device=device) * 0.8 * side
    boxes = torch.cat([corners[..., 0, :], corners[..., 0, :] + 8 + corners[..., 1, :] / 5], -1)
    boxes = boxes.clamp(max=side)
    labels = torch.randint(CLASSES, (given.batch, OBJECTS), device=device)
    batch = {"image": images, "boxes": list(boxes), "labels": list(labels)}

    ours = {"DINO": task(given, 0, device), "DINO with denoising": task(given, 100, device)}
    oriented = task(given, 100, device, "oriented")
    across = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]]
    base = ours["DINO"]
    steps: dict[str, Callable[[], Any]] = {
        name: stepper(each, lambda each=each: sum(each.training_loss(batch).values()))
        for name, each in ours.items()
    }
    steps["DINO, oriented, with denoising"] = stepper(
        oriented,
        lambda: sum(oriented.training_loss({**batch, "boxes": list(across)}).values()),
    )
    predictions: dict[str, Callable[[], Any]] = {
        "DINO": lambda: base.eval().predict_windows(images),
        "DINO, oriented, with denoising": lambda: oriented.eval().predict_windows(images),
    }
    detr = deformable_detr(given, base).to(device)
    wanted = [
        {"class_labels": one, "boxes": base.coder.encode(box, side)}
        for one, box in zip(labels, boxes, strict=True)
    ]
    pixels = torch.zeros(given.batch, 3, side, side, device=device)  # ours are in the backbone
    detr.model.backbone.images = images
    steps["Deformable DETR (transformers)"] = stepper(
        detr, lambda: detr.train()(pixels, labels=wanted).loss
    )
    predictions["Deformable DETR (transformers)"] = lambda: detr.eval()(pixels)
    rcnn = faster_rcnn(given, base).to(device)
    floats = list(images.float() / 255)
    targets = [{"boxes": b, "labels": n + 1} for b, n in zip(boxes, labels, strict=True)]
    steps["Faster R-CNN (torchvision)"] = stepper(
        rcnn, lambda: sum(rcnn.train()(floats, targets).values())
    )
    predictions["Faster R-CNN (torchvision)"] = lambda: rcnn.eval()(floats)

    half = torch.autocast(device.type, torch.bfloat16) if given.bf16 else nullcontext()
    with half:
        stepped = take_turns(steps, given.turns, device)
    with half, torch.inference_mode():
        predicted = take_turns(predictions, given.turns, device)
    place = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    threads = torch.get_num_threads()
    table = Table(title=f"{given.size}, {side} px, batch {given.batch}, {place}, {threads} threads")
    for name in ("detector", "ms a step", "of DINO's", "ms a prediction", "of DINO's"):
        table.add_column(name, justify="left" if name == "detector" else "right")
    for name, seconds in stepped.items():
        row = [name, f"{1e3 * seconds:.0f}", f"{seconds / stepped['DINO']:.2f}"]
        if name in predicted:
            row += [f"{1e3 * predicted[name]:.0f}", f"{predicted[name] / predicted['DINO']:.2f}"]
        table.add_row(*row)
    console.print(table)
    matching(given, base, batch, stepped["DINO"], device, console)
    sampling(given, device, console)


def task(
    given: argparse.Namespace, num_dn_queries: int, device: torch.device, boxes: Any = "horizontal"
) -> DetectionTask:
    """Our task on a random backbone."""
    config = ObjectDetection(
        backbone=Backbone(name=given.size, weights="random", compile=given.compile),
        data=DetectionData(root=".", image_size=given.side, boxes=boxes),
        decoder=DetectionDecoder(
            queries=given.queries,
            num_dn_queries=num_dn_queries,
            encoder_layers=given.layers,
            decoder_layers=given.layers,
        ),
    )
    built = build(config.backbone, given.side)
    names = tuple(str(n) for n in range(CLASSES))
    return DetectionTask(built.module, built.normalization, names, config).to(device)


class Maps(nn.Module):
    """Our frozen maps in the place of Deformable DETR's backbone, resized as our neck has them."""

    images: Tensor

    def __init__(self, ours: DetectionTask):
        super().__init__()
        self.ours = [ours]  # in a list: its weights are not the peer's

    def forward(self, pixels: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return three maps and their masks."""
        maps = self.ours[0].encode(self.images).unbind(1)
        levels = [
            F.interpolate(x, scale_factor=scale, mode="bilinear") if scale != 1 else x
            for x, scale in zip(maps, SCALES, strict=True)
        ]
        return [(x, torch.ones(len(x), *x.shape[2:], device=x.device).bool()) for x in levels]


def deformable_detr(given: argparse.Namespace, ours: DetectionTask) -> nn.Module:
    """transformers' detector on our maps."""
    config = DeformableDetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=ResNetConfig(
            hidden_sizes=[8, 8, 8, 8],
            depths=[1, 1, 1, 1],
            embedding_size=8,
            out_features=["stage2", "stage3", "stage4"],
        ),
        num_labels=CLASSES,
        d_model=CHANNELS,
        num_queries=given.queries,
        two_stage_num_proposals=given.queries,
        encoder_layers=given.layers,
        decoder_layers=given.layers,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        num_feature_levels=4,
        two_stage=True,
        with_box_refine=True,
        auxiliary_loss=True,
        disable_custom_kernels=True,
    )
    model = DeformableDetrForObjectDetection(config)
    model.model.backbone = Maps(ours)
    width = ours.backbone.embed_dim
    model.model.input_proj = nn.ModuleList(
        nn.Sequential(nn.Conv2d(width, CHANNELS, *how), nn.GroupNorm(32, CHANNELS))
        for how in ((1,), (1,), (1,), (3, 2, 1))
    )
    return model


class Pyramid(nn.Module):
    """Our frozen maps and our neck as torchvision wants a backbone."""

    out_channels = CHANNELS

    def __init__(self, ours: DetectionTask):
        super().__init__()
        self.ours = [ours]
        self.neck = ChannelMapper(ours.backbone.embed_dim, CHANNELS)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return four levels."""
        levels = self.neck(self.ours[0].encode(images * 255).unbind(1))
        return OrderedDict((str(n), level) for n, level in enumerate(levels))


def faster_rcnn(given: argparse.Namespace, ours: DetectionTask) -> nn.Module:
    """torchvision's detector on our maps."""
    sizes = tuple((16 * 2**n,) for n in range(4))
    model = FasterRCNN(
        Pyramid(ours),
        num_classes=CLASSES + 1,
        min_size=given.side,
        max_size=given.side,
        image_mean=(0.0, 0.0, 0.0),
        image_std=(1.0, 1.0, 1.0),
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 4),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
    )
    model.transform.size_divisible = 14  # it would pad to multiples of 32
    return model


def stepper(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return what does a step of training."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def take_turns(
    runs: Mapping[str, Callable[[], Any]], turns: int, device: torch.device
) -> dict[str, float]:
    """Return the median seconds of each, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: median(all_of_it) for name, all_of_it in seconds.items()}


def matching(
    given: argparse.Namespace,
    ours: DetectionTask,
    batch: Mapping[str, Any],
    step: float,
    device: torch.device,
    console: Console,
) -> None:
    """Print what the assignment of all layers and images costs."""
    truth = pad_targets(batch["boxes"], batch["labels"], ours.coder, given.side)
    layers = given.layers + 1
    logits = torch.randn(layers, given.batch, given.queries, CLASSES, device=device)
    boxes = torch.rand(layers, given.batch, given.queries, 4, device=device)
    seconds = take_turns(
        {"": lambda: match(logits, boxes, truth, ours.coder)}, given.turns, device
    )[""]
    table = Table("matching", "ms", "share of a step")
    how = f"{layers} layers, {given.queries} queries, {OBJECTS} objects an image"
    table.add_row(how, f"{1e3 * seconds:.1f}", f"{seconds / step:.1%}")
    console.print(table)


def sampling(given: argparse.Namespace, device: torch.device, console: Console) -> None:
    """Print what the sampling of one attention costs: every pixel a query, and the queries."""
    grid = given.side // 14
    shapes = [(round(grid * scale),) * 2 for scale in (*SCALES, 0.25)]
    length = sum(rows * columns for rows, columns in shapes)
    values = torch.randn(given.batch, length, 8, 32, device=device, requires_grad=True)
    table = Table("sampling, ms", "ours", "with gradients", "grid_sample", "with gradients")
    for queries in (length, min(given.queries, length)):
        form = given.batch, queries, 8, 4, 4
        places = torch.rand(*form, 2, device=device, requires_grad=True)
        weights = torch.rand(form, device=device, requires_grad=True)

        def grad(how: Callable[..., Tensor], places: Tensor, weights: Tensor) -> None:
            out = how(values, shapes, places, weights)
            torch.autograd.grad(out.sum(), (values, places, weights))

        runs: dict[str, Callable[[], Any]] = {}
        for name, how in (("ours", sample), ("grid", sample_by_grid)):
            runs[name] = lambda how=how, p=places, w=weights: how(
                values.detach(), shapes, p.detach(), w.detach()
            )
            runs[name + "+"] = lambda how=how, p=places, w=weights: grad(how, p, w)
        seconds = take_turns(runs, given.turns, device)
        table.add_row(f"{queries} queries", *(f"{1e3 * s:.1f}" for s in seconds.values()))
    console.print(table)


def sample_by_grid(
    values: Tensor, shapes: list[tuple[int, int]], places: Tensor, weights: Tensor
) -> Tensor:
    """Deformable attention as it is commonly written: `grid_sample`, level by level."""
    batch, _, heads, width = values.shape
    read = []
    pieces = values.split([rows * columns for rows, columns in shapes], dim=1)
    for level, (shape, piece) in enumerate(zip(shapes, pieces, strict=True)):
        picture = piece.permute(0, 2, 3, 1).reshape(batch * heads, width, *shape)
        grid = 2 * places[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        read.append(F.grid_sample(picture, grid, padding_mode="zeros", align_corners=False))
    weight = weights.transpose(1, 2).flatten(0, 1).flatten(-2)[:, None]
    summed = (torch.stack(read, -2).flatten(-2) * weight).sum(-1)
    return summed.view(batch, heads * width, -1).mT


if __name__ == "__main__":
    main()
