"""Distillation: the student's tokens learn to predict the features of a frozen teacher.

The class token predicts the teacher's features of the image, each patch token its maps at that
place, through linear heads (Heo et al. 2019, "A comprehensive overhaul of feature distillation").

A teacher that sees whole images sees each of them once, and the targets of a crop are cut from its
maps where the crop was cut from the image, as detectors cut the features of regions (RoIAlign, He
et al. 2017): new crops in every pass over the images, at no cost of the teacher. A teacher that
sees crops is computed in every step, on the global ones.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from cgeartheye.config import Teacher
from cgeartheye.models.backbone.block import PATCH
from cgeartheye.pretraining.loader import ViewBatch, mix
from cgeartheye.pretraining.teacher import FrozenTeacher
from cgeartheye.pretraining.views.sampling import FLIP_COLUMNS, FLIP_ROWS, TRANSPOSE
from cgeartheye.training.distributed import share_buffers

MEASURED = 2048  # images whose features are measured to standardize them
PLACES = 12  # of the maps of each, about
LEAST_VARIANCE = 1e-6  # of a channel; what varies less is noise


class Standardizer(nn.Module):
    """Brings features to mean 0 and variance 1: each channel, or each principal component."""

    mean: Tensor
    basis: Tensor | None
    scale: Tensor  # `[D']`

    def __init__(self, samples: Tensor, settings: Teacher):
        """Measure features.

        Args:
            samples: float `[n, D]`.
            settings: channels or components, and how many of these.
        """
        super().__init__()
        variances, basis = samples.var(0), None
        if settings.targets == "whiten":
            # In float64: small components are what large ones leave.
            variances, basis = torch.linalg.eigh(torch.cov(samples.T.double()))
            count = settings.components or len(variances)
            variances = variances.flip(0)[:count].float()
            basis = basis.flip(1)[:, :count].float().contiguous()
        self.register_buffer("mean", samples.mean(0))
        self.register_buffer("basis", basis)
        self.register_buffer("scale", variances.clamp(min=LEAST_VARIANCE).rsqrt())

    def forward(self, features: Tensor) -> Tensor:
        """Map `[..., D]` to `[..., D']`."""
        centered = features - self.mean
        return (centered if self.basis is None else centered @ self.basis) * self.scale


class Distillation(nn.Module):
    """The targets that a frozen teacher sets, and the loss of the student's predictions.

    Attributes:
        of_images: standardizes the teacher's features of images.
        of_maps: its maps, layer by layer.
        widths: channels of the target of a class token and of a patch; 0 where none is learned.
    """

    def __init__(self, settings: Teacher, teacher: FrozenTeacher):
        """Measure the teacher's features.

        Args:
            settings: targets and loss.
            teacher: knows the images already, if it is to see whole ones.
        """
        super().__init__()
        self._settings = settings
        self._ask = (teacher,)  # not as a part of this module: its weights are in no checkpoint
        features = teacher.encode_few(MEASURED)
        whole = features.images
        pooled = whole.mean((2, 3)) if whole.ndim == 4 else whole
        self.of_images = Standardizer(pooled, settings)
        measured = []
        for maps in features.maps:
            places = maps.flatten(2).mT
            step = max(1, places.shape[1] // PLACES)
            measured.append(Standardizer(places[:, ::step].flatten(0, 1), settings))
        self.of_maps = nn.ModuleList(measured)
        share_buffers(self)
        self.widths = (
            len(self.of_images.scale) if settings.class_weight else 0,
            sum(len(m.scale) for m in measured) if settings.patch_weight else 0,
        )

    def forward(
        self, classes: Tensor | None, patches: Sequence[Tensor], views: ViewBatch
    ) -> dict[str, Tensor]:
        """Compare predictions with targets.

        Args:
            classes: predictions of the class tokens of all crops, `[V * B, D]`; none where they are
                not learned.
            patches: of the patches of the global crops, `[2 * B, n, D']`, and of the local ones,
                `[L * B, n', D']`; none where they are not learned.
            views: what the student saw.

        Returns:
            The weighted losses by name; where the teacher sees crops, of the global ones.
        """
        targets, maps = self.targets(views)
        losses = {}
        if classes is not None:
            loss = self._distance(classes[: len(targets)], targets).mean()
            losses["distill_class"] = self._settings.class_weight * loss
        if patches:
            distances = []
            for number, (predicted, target) in enumerate(zip(patches, maps, strict=False)):
                if views.kept is not None:
                    kept = views.kept[number].unsqueeze(2).expand(-1, -1, target.shape[2])
                    target = target.gather(1, kept)
                distances.append(self._distance(predicted, target).mean(1))
            losses["distill_patch"] = self._settings.patch_weight * torch.cat(distances).mean()
        return losses

    @torch.no_grad()
    def targets(self, views: ViewBatch) -> tuple[Tensor, list[Tensor]]:
        """Return what the student is to predict.

        Returns:
            Of the class tokens `[N, D]`, and of the patches of each group of crops `[n, g * g,
            D']`: of all crops, or of the global ones where the teacher sees crops.
        """
        groups, (teacher,) = [views.globals, views.locals], self._ask
        origins = views.origins
        if views.shown is not None:
            features, own = teacher.encode(views.shown), None
            rows, groups = torch.arange(len(views.shown)), groups[:1]
            boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(rows), 4)
            symmetry = torch.zeros(len(rows), dtype=torch.int64)
        else:
            images, first = np.unique(origins.images, return_inverse=True)
            features, own = teacher.recall(images), origins.own
            rows, boxes, symmetry = torch.from_numpy(first), origins.boxes, origins.symmetry
        device = views.globals.device
        if features.images.ndim == 4:
            classes = self.of_images(mean_of_regions(features.images, rows, boxes))
        else:
            classes = self.of_images(features.images)[rows.to(device)]
        counts = [len(group) for group in groups]
        patches = []
        for group, which in zip(groups, torch.arange(len(rows)).split(counts), strict=True):
            side = group.shape[-1] // PATCH
            cut = [
                cut_maps(m, rows[which], boxes[which], symmetry[which], side) for m in features.maps
            ]
            standard = [s(m.flatten(2).mT) for s, m in zip(self.of_maps, cut, strict=True)]
            patches.append(torch.cat(standard, dim=2))
        if own is None:
            return classes, patches
        own = own.to(device)
        weights = own.split(counts)
        return mix(classes, own), [mix(p, w) for p, w in zip(patches, weights, strict=True)]

    def _distance(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the distances of vectors `[..., D]`, `[...]`."""
        predicted, loss = predicted.float(), self._settings.loss
        distance = predicted.new_zeros(predicted.shape[:-1])
        if loss != "cosine":
            distance = F.smooth_l1_loss(predicted, target, reduction="none").mean(-1)
        if loss != "smooth_l1":
            distance = distance + 1 - F.cosine_similarity(predicted, target, dim=-1)
        return distance


def cut_maps(maps: Tensor, rows: Tensor, boxes: Tensor, symmetry: Tensor, side: int) -> Tensor:
    """Cut maps as crops were cut from images, and bring them to a grid of patches.

    Args:
        maps: float `[B, D, h, w]`, each over the whole of an image.
        rows: int64 `[N]`, whose map is cut.
        boxes: float `[N, 4]`, left, top, right and bottom as shares of the image's sides.
        symmetry: int64 `[N]`; see `views.Plan`.
        side: patches a side.

    Returns:
        float `[N, D, side, side]`.
    """
    cut: Tensor = roi_align(maps, _regions(maps, rows, boxes), side, sampling_ratio=2, aligned=True)
    for turn in symmetry.unique().tolist():
        if turn:
            which = (symmetry == turn).to(maps.device)
            flips = [dim for flag, dim in ((FLIP_ROWS, 2), (FLIP_COLUMNS, 3)) if turn & flag]
            turned = cut[which].flip(flips)
            cut[which] = turned.mT if turn & TRANSPOSE else turned
    return cut


def mean_of_regions(maps: Tensor, rows: Tensor, boxes: Tensor) -> Tensor:
    """Average maps over crops.

    Args:
        maps: float `[B, D, h, w]`, each over the whole of an image.
        rows: int64 `[N]`, whose map is averaged.
        boxes: float `[N, 4]`, as in `cut_maps`.

    Returns:
        float `[N, D]`.
    """
    # Without a ratio about one sample a pixel of the map is taken: of a whole map, its mean.
    means: Tensor = roi_align(maps, _regions(maps, rows, boxes), 1, aligned=True)
    return means.flatten(1)


def _regions(maps: Tensor, rows: Tensor, boxes: Tensor) -> Tensor:
    """Return regions as RoIAlign takes them, `[N, 5]`: row, and corners in pixels of the maps."""
    height, width = maps.shape[2:]
    scaled = boxes * torch.tensor([width, height, width, height])
    return torch.cat([rows.unsqueeze(1), scaled], dim=1).to(maps.device, maps.dtype)
