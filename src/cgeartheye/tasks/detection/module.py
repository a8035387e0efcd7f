"""Object detection: boxes around the objects in an image, horizontal or oriented."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from cgeartheye.boxes import Detections, nms, oriented_of
from cgeartheye.config import DetectionDecoder, Normalization, ObjectDetection
from cgeartheye.data.transforms.boxes import eval_scale
from cgeartheye.inference.merge_boxes import merge_windows
from cgeartheye.inference.windows import window_offsets
from cgeartheye.metrics.detection.metrics import DetectionMetrics
from cgeartheye.models.backbone import Model
from cgeartheye.models.detection import (
    DINO,
    TOP,
    LightDetector,
    Targets,
    aligned_losses,
    assign,
    coder_of,
    pad_targets,
    set_criterion,
)
from cgeartheye.tasks.base import FeatureMapTask
from cgeartheye.training import distributed
from cgeartheye.training.loaders import Batch
from cgeartheye.utils.errors import UserError

MAPS = {"dino": 3, "light": 4}  # where the config names no layers

_SAME = 0.5  # IoU from which boxes of two views are of one object
_LEAST_SCORE = 0.01  # of what a point predicts, before NMS
_MOST = 1000  # boxes before NMS, at least: the best of an image; an object is learnt by TOP points


class DetectionTask(FeatureMapTask):
    """A backbone and a detector, of queries or dense; see `training.trainer.Task`.

    Training batches hold `boxes`, `labels` and `ignored`, a tensor for each image, or `objects` as
    `pack` makes them, and either `image` uint8 `[B, 3, S, S]` or, from the cache, `features`. Test
    batches hold `size`, rows and columns of the images on disk, and boxes in pixels of those.

    Attributes:
        oriented: whether boxes are.
    """

    monitor = "ap50"
    decoder: DINO | LightDetector

    def __init__(
        self,
        backbone: Model,
        normalization: Normalization,
        classes: tuple[str, ...],
        config: ObjectDetection,
        tta: bool = False,
    ):
        """Put a detector on a backbone.

        Args:
            backbone: built by `cgeartheye.models.backbone.build`.
            normalization: of the backbone's weights.
            classes: names by index.
            config: detector and data.
            tta: look at an image and its mirror image, and suppress what both show.

        Raises:
            UserError: see `FeatureMapTask`.
        """
        super().__init__(backbone, normalization, config, MAPS[config.decoder.kind])
        self.classes = classes
        self.oriented = config.data.boxes == "oriented"
        self.whole = config.data.resize
        self.window = config.window
        self.max_detections = config.max_detections
        self.tta = tta
        self.coder = coder_of(self.oriented)
        self.decoder = self._detector(config.decoder)
        if config.backbone.compile and isinstance(self.decoder, DINO):
            for layer in (*self.decoder.encoder.layers, *self.decoder.decoder.layers):
                layer.compile()

    def _detector(self, asked: DetectionDecoder) -> DINO | LightDetector:
        classes = len(self.classes)
        if asked.kind == "light":
            return LightDetector(
                self.channels, len(self.layers), classes, self.coder, asked.channels // 2
            )
        return DINO(
            self.channels,
            classes,
            self.coder,
            asked.channels,
            asked.queries,
            (asked.encoder_layers, asked.decoder_layers),
            asked.heads,
            asked.num_points,
            asked.ffn_dim,
            asked.num_dn_queries,
            asked.label_noise,
            asked.box_noise_scale,
        )

    def encode(self, images: Tensor) -> Tensor:
        """Map images uint8 `[B, 3, S, S]` to feature maps `[B, layers, C, h, w]`."""
        return self.maps(images)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of what is found, by name."""
        features = batch["features"] if "features" in batch else self.encode(batch["image"])
        boxes, labels = unpack(batch["objects"]) if "objects" in batch else _wanted(batch)
        truth = pad_targets(boxes, labels, self.coder, self.side)
        if isinstance(self.decoder, LightDetector):
            return self._aligned_losses(self.decoder, features, truth)
        outputs = self.decoder.training_outputs(features.unbind(1), truth)
        noised = outputs.noised.positive.sum() if outputs.noised else features.new_zeros(())
        counts = torch.stack([features.new_tensor(sum(truth.counts)), noised.to(features.dtype)])
        objects, positives = distributed.all_sum(counts).div(distributed.world_size()).tolist()
        return set_criterion(outputs, truth, self.coder, max(objects, 1.0), max(positives, 1.0))

    def _aligned_losses(
        self, decoder: LightDetector, features: Tensor, truth: Targets
    ) -> dict[str, Tensor]:
        logits, boxes, points = decoder(features.unbind(1))
        assigned = assign(logits, boxes, points, truth, self.coder)
        total = distributed.all_sum(assigned.quality.sum()).div(distributed.world_size()).item()
        return aligned_losses(logits, boxes, assigned, truth, self.coder, max(total, 1.0))

    def predict(self, batch: Batch) -> list[Detections]:
        """Return what is found in each image, in pixels of the image on disk.

        An image that is not square has more than itself in the network's input: what has its centre
        beyond the image is left out. Horizontal boxes are cut to it, as annotations are.
        """
        if "features" in batch:
            preds = self._best(*self._decode(batch["features"]))
        elif self.whole:
            preds = self.predict_windows(batch["image"])
        else:
            preds = [self._slide(image) for image in batch["image"]]
        return [
            self._on_disk(each, height, width)
            for each, (height, width) in zip(preds, batch["size"].tolist(), strict=True)
        ]

    def predict_windows(self, images: Tensor) -> list[Detections]:
        """Return what is found in images uint8 `[B, 3, S, S]`, in their pixels."""
        preds = self._best(*self.outputs(images))
        if not self.tta:
            return preds
        mirrored = self._best(*self.outputs(images.flip(-1)))
        both = (
            Detections.concatenate([plain, _mirrored(other, self.side)])
            for plain, other in zip(preds, mirrored, strict=True)
        )
        return [nms(each, _SAME)[: self.max_detections] for each in both]

    def graph(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images uint8 `[B, 3, S, S]` to all boxes and their scores; see `_decode`."""
        return self._decode(self.encode(images))

    def metrics(self) -> DetectionMetrics:
        """Return new, empty metrics."""
        return DetectionMetrics(len(self.classes), self.oriented)

    def measure(
        self, metrics: DetectionMetrics, prediction: Sequence[Detections], batch: Batch
    ) -> None:
        """See `training.trainer.Task`."""
        fields = (batch[name] for name in ("boxes", "labels", "ignored"))
        for index, preds, boxes, labels, ignored in zip(
            batch["index"].tolist(), prediction, *fields, strict=True
        ):
            truth = oriented_of(boxes.unflatten(-1, (4, 2))) if self.oriented else boxes
            metrics.update(index, preds.cpu(), truth.cpu(), labels.cpu(), ignored.cpu())

    def _on_disk(self, preds: Detections, height: int, width: int) -> Detections:
        scale = eval_scale(height, width, self.side, self.whole)
        boxes = preds.boxes.clone()
        boxes[:, :4] /= scale
        centers = preds.centers / scale
        inside = ((centers >= 0) & (centers <= boxes.new_tensor([width, height]))).all(1)
        if not self.oriented:
            boxes = clip_boxes_to_image(boxes, (height, width))
        return Detections(boxes, preds.scores, preds.labels)[inside]

    def _decode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return all boxes `[B, N, 4 or 5]` in pixels of the network's input, before any choice.

        Beside them the scores of the classes `[B, N, classes]`, 0..1.
        """
        maps = features.to(next(self.parameters()).device).float()
        logits, boxes = self.decoder(maps.unbind(1))[:2]
        return self.coder.decode(boxes.float(), self.side), logits.sigmoid()

    def _best(self, boxes: Tensor, all_scores: Tensor) -> list[Detections]:
        """Return the best boxes of each image."""
        dense = isinstance(self.decoder, LightDetector)
        most = max(_MOST, TOP * self.max_detections) if dense else self.max_detections
        scores, best = all_scores.flatten(1).topk(min(most, all_scores[0].numel()))
        if not scores.isfinite().all():
            raise UserError(
                "the predictions are not finite: the training has diverged; lower training.lr, set "
                "training.clip_norm=0.1 or training.precision=fp32"
            )
        query, label = best // len(self.classes), best % len(self.classes)
        chosen = boxes.gather(1, query[..., None].expand(-1, -1, boxes.shape[-1]))
        preds = [Detections(*each) for each in zip(chosen, scores, label, strict=True)]
        return [self._suppress(each) for each in preds] if dense else preds

    def _suppress(self, preds: Detections) -> Detections:
        """Drop boxes that other points predict too, and those with almost no score."""
        scored = preds[preds.scores >= _LEAST_SCORE]
        return nms(scored, self.coder.nms_threshold)[: self.max_detections]

    def _slide(self, image: Tensor) -> Detections:
        """Return what is found in an image uint8 `[3, H, W]` of any size, window by window."""
        height, width = image.shape[1:]
        tops, lefts = (
            window_offsets(length, self.side, self.window.overlap) for length in (height, width)
        )
        right, below = max(0, self.side - width), max(0, self.side - height)
        padded = F.pad(image, (0, right, 0, below))
        places = [(left, top) for top in tops for left in lefts]
        preds: list[tuple[int, int, Detections]] = []
        for first in range(0, len(places), self.window.batch_size):
            some = places[first : first + self.window.batch_size]
            windows = [padded[:, y : y + self.side, x : x + self.side] for x, y in some]
            parts = self.predict_windows(torch.stack(windows))
            preds += [(x, y, part.cpu()) for (x, y), part in zip(some, parts, strict=True)]
        return merge_windows(preds, self.side)


def pack(boxes: Tensor, labels: Tensor, most: int) -> Tensor:
    """Write objects as rows of one size, as the cache keeps them beside features.

    Args:
        boxes: `[n, 4]`, or corners `[n, 8]`.
        labels: `[n]`.
        most: rows; those behind the last object have the label -1.

    Returns:
        float32 `[most, 5]` or `[most, 9]`.
    """
    rows = torch.full((most, boxes.shape[1] + 1), -1.0)
    rows[: len(labels)] = torch.cat([boxes.float(), labels[:, None].float()], 1)
    return rows


def unpack(objects: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return boxes and labels of each image out of what `pack` wrote, `[B, most, ...]`."""
    real = [rows[rows[:, -1] >= 0] for rows in objects]
    return [rows[:, :-1] for rows in real], [rows[:, -1].long() for rows in real]


def _wanted(batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes and labels of a batch of samples."""
    boxes: list[Tensor] = batch["boxes"]
    labels: list[Tensor] = batch["labels"]
    return boxes, labels


def _mirrored(preds: Detections, side: int) -> Detections:
    """Return the detections of the mirror image, in the image."""
    boxes = preds.boxes
    if boxes.shape[1] == 4:
        x0, y0, x1, y1 = boxes.unbind(1)
        turned = torch.stack([side - x1, y0, side - x0, y1], 1)
    else:
        x, y, w, h, angle = boxes.unbind(1)
        turned = torch.stack([side - x, y, w, h, torch.remainder(-angle, math.pi)], 1)
    return Detections(turned, preds.scores, preds.labels)
