"""How a segmenter is built, fed, tested and used."""

import time
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.backbone import Built
from cgeartheye.config import Normalisation, SegmentationData, SemanticSegmentation, to_yaml
from cgeartheye.config.schema import Colour
from cgeartheye.data import (
    SegmentationChips,
    SegmentationParts,
    fingerprint_masks,
    load_segmentation_parts,
    read_image,
)
from cgeartheye.data.check_masks import check_masks
from cgeartheye.data.findings import CheckResult
from cgeartheye.data.images import read_header
from cgeartheye.data.legend import make_legend
from cgeartheye.data.masks import refuse_sizes
from cgeartheye.data.transforms import seeded
from cgeartheye.errors import UserError
from cgeartheye.evaluation.metrics import ConfusionMatrix
from cgeartheye.evaluation.segmentation_report import Example, four_panels, segmentation_report
from cgeartheye.files import replacing
from cgeartheye.mapping.ground import pixel_size
from cgeartheye.tasks.base import Tested, device_of, predictions
from cgeartheye.tasks.encoded import WindowSource, encode_windows
from cgeartheye.tasks.inputs import Views, cache_folder, cached_features, encode
from cgeartheye.tasks.mask_files import check_names, write_mask
from cgeartheye.tasks.segmentation import SegmentationTask, half_when_frozen
from cgeartheye.tasks.sliding import count_windows
from cgeartheye.training import distributed
from cgeartheye.training.features import cached
from cgeartheye.training.loop import Data, evaluate
from cgeartheye.training.progress import say
from cgeartheye.training.run import environment, read_history
from cgeartheye.training.sources import Batch, FeatureSource, FileSource, Source

WHOLE = ("image", "mask")  # what differs in size from sample to sample in tests


class SegmentationRecipe:
    """See `recipes.Recipe`."""

    def __init__(self, config: SemanticSegmentation):
        self.config = config

    @cached_property
    def parts(self) -> SegmentationParts:
        """The images and masks of each part."""
        return load_segmentation_parts(self.config.data)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the data."""
        return make_legend(self.config.data).classes

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Of the data."""
        return make_legend(self.config.data).colours

    def gsd(self) -> float | None:
        """Metres a pixel of the images."""
        return self.config.data.gsd or pixel_size(self.parts.train.paths[0])

    def task(self, built: Built, classes: tuple[str, ...], tta: bool) -> SegmentationTask:
        """Put a new decoder on a backbone."""
        return SegmentationTask(built.module, built.normalisation, classes, self.config, tta)

    def published_decoder(
        self, path: Path, tensors: Mapping[str, Tensor], classes: int
    ) -> dict[str, Tensor]:
        """Return UPerNet and its auxiliary head, which carry mmsegmentation's names."""
        heads = ["neck.", "decode_head."]
        if self.config.decoder.auxiliary:
            heads.append("auxiliary_head.")
        state = {name: t for name, t in tensors.items() if name.startswith(tuple(heads))}
        last = state.get("decode_head.conv_seg.weight")
        if last is None or self.config.decoder.kind != "upernet":
            raise UserError(
                f"{path} holds no UPerNet (neck, decode_head) for decoder.kind=upernet: name a run "
                "directory, or train with backbone.weights set to this file"
            )
        if len(last) != classes:
            raise UserError(
                f"{path} knows {len(last)} classes, the data in {self.config.data.root} have "
                f"{classes}: test it on the data that it was trained on"
            )
        return state

    def data(self, task: SegmentationTask, built: Built) -> Data:
        """Return what is trained on and evaluated on."""
        config = self.config
        return Data(
            train=self._training_source(task, built),
            train_batch=config.data.batch_size,
            val=self._validation_source(task, built),
            val_batch=config.data.batch_size,
        )

    def check_out(self, out: Path, tested: bool) -> None:
        """Refuse a file where masks need a folder."""
        if out.is_file() or out.suffix:
            raise UserError(f"{out}: masks go into a folder, one for each image: name one")

    def test(
        self, task: SegmentationTask, built: Built, out: Path | None, show_dir: Path | None
    ) -> Tested:
        """Test; see `Recipe`."""
        started = time.monotonic()
        config, chips, device = self.config, self.parts.test, device_of(task)
        if out:
            check_names(dict(zip(chips.paths, chips.names, strict=True)))
        found: list[tuple[int, float]] = []

        def keep(prediction: list[Tensor], batch: Batch) -> None:
            for index, classes, mask in zip(
                batch["index"].tolist(), prediction, batch["mask"], strict=True
            ):
                of_image = ConfusionMatrix(len(task.classes))
                of_image.update(classes, mask)
                found.append((index, of_image.mean_iou))
                predicted = classes.cpu().numpy()
                if out:
                    write_mask(out, chips.names[index], predicted, chips.legend, chips.paths[index])
                if show_dir:
                    _save_panels(show_dir, chips, index, predicted)

        source = FileSource(chips, config.data.workers, device, WHOLE)
        metrics = evaluate(task, source, config.data.batch_size, config.training.precision, keep)
        ious = np.full(len(chips), np.nan)
        for share in distributed.gather(found):
            for index, iou in share:
                ious[index] = iou

        def load_example(index: int) -> Example:
            """Predict once more: not every mask of a large test can be kept."""
            one = FileSource(torch.utils.data.Subset(chips, [index]), 0, device, WHOLE)
            ((prediction, _),) = predictions(task, one, config)
            return _example(chips, index, prediction[0].cpu().numpy())

        def report(path: Path) -> None:
            assert config.work_dir is not None
            segmentation_report(
                path,
                title=config.work_dir.name,
                classes=chips.legend.classes,
                colours=chips.legend.colours,
                metrics=metrics,
                history=read_history(config.work_dir),
                names=chips.names,
                ious=ious,
                load_example=load_example,
                config_yaml=to_yaml(config),
                environment={
                    **environment(device),
                    "test": f"{time.monotonic() - started:.1f} s",
                },
            )

        return Tested(metrics.compute(), report)

    def predict(self, task: SegmentationTask, images: Mapping[Path, str], out: Path) -> None:
        """Write a mask for each image; see `write_mask`."""
        config, paths, legend = self.config, list(images), make_legend(self.config.data)
        check_names(dict(images))
        source = FileSource(
            _Images(paths, config.data), config.data.workers, device_of(task), WHOLE
        )
        pixels: Counter[str] = Counter()
        for prediction, batch in predictions(task, source, config):
            for index, classes in zip(batch["index"].tolist(), prediction, strict=True):
                labels = classes.cpu().numpy()
                write_mask(out, images[paths[index]], labels, legend, paths[index])
                counts = np.bincount(labels.ravel(), minlength=len(task.classes)).tolist()
                pixels.update(dict(zip(task.classes, counts, strict=True)))
        shares = [f"{n / pixels.total():.1%} {name}" for name, n in pixels.most_common(8) if n]
        say(f"{len(paths)} images: {', '.join(shares)}")

    def check(self, normalisation: Normalisation, progress: Any) -> CheckResult:
        """Examine the data."""
        return check_masks(self.config.data, normalisation, progress)

    def _training_source(self, task: SegmentationTask, built: Built) -> Source:
        """Return where training batches come from: the cache, or files."""
        config, chips, device = self.config, self.parts.train, device_of(task)
        if config.backbone.tuning == "frozen" and config.cache.enabled:
            drawn = {"image_size", "scale", "largest_class", "distortion", "bands", "stretch"}
            crops = {
                "crops": config.data.model_dump(mode="json", include=drawn),
                "data": fingerprint_masks(chips),
            }
            facts = {"layers": task.layers, "half": half_when_frozen(device), **crops}
            samples = self._views(_Crops(chips, "image"))
            task.eval()
            features = cached_features(
                config,
                built,
                (len(chips), samples.views, *task.encoded_shape),
                lambda: encode(config, device, samples, task.encode),
                {**facts, **samples.facts},
                str(samples),
            )
            if features is not None:
                masks = cached(
                    cache_folder(config),
                    {"masks": True, **samples.facts, **crops},
                    (len(chips), samples.views, task.side, task.side),
                    lambda: encode(config, device, self._views(_Crops(chips, "mask")), torch.clone),
                    np.uint8,
                )
                return FeatureSource({"features": features, "mask": masks}, device)
        return FileSource(chips, config.data.workers, device)

    def _validation_source(self, task: SegmentationTask, built: Built) -> Source:
        """Return where validation images come from: the cache of their windows, or files."""
        config, chips, device = self.config, self.parts.val, device_of(task)
        source = FileSource(chips, config.data.workers, device, WHOLE)
        if config.backbone.tuning != "frozen" or not config.cache.enabled:
            return source
        headers = [read_header(path) for path in chips.paths]
        shapes = [(header.height, header.width) for header in headers]
        side, overlap = task.side, config.window.overlap
        ends = np.cumsum([0, *(count_windows(*shape, side, overlap) for shape in shapes)]).tolist()
        facts = {
            "windows": [side, overlap],
            "pixels": config.data.model_dump(mode="json", include={"bands", "stretch"}),
            "layers": task.layers,
            "half": half_when_frozen(device),
            "data": fingerprint_masks(chips),
        }
        task.eval()
        features = cached_features(
            config,
            built,
            (ends[-1], 1, *task.encoded_shape),
            lambda: encode_windows(config, task, source, ends),
            facts,
            f"{ends[-1]:,} windows",
        )
        return source if features is None else WindowSource(features, ends, shapes, chips, device)

    def _views(self, load: "_Crops") -> Views:
        count, config = len(load.chips), self.config
        return Views(count, config.cache.views, config.training.seed, load)


class _Crops:
    """Loads the training crops of an image that some seeds give, or their masks."""

    def __init__(self, chips: SegmentationChips, what: str):
        self.chips, self._what = chips, what

    def __call__(self, index: int, seeds: list[int]) -> Tensor:
        chips = self.chips
        image = tv_tensors.Image(chips.load_picture(index))
        mask = tv_tensors.Mask(chips.load_mask(index))
        refuse_sizes(chips.paths[index], image, chips.mask_paths[index], mask)
        crops = []
        for seed in seeds:
            with seeded(seed):
                crop, labels = chips.train_view(image, mask)
            crops.append((crop if self._what == "image" else labels).as_subclass(Tensor))
        return torch.stack(crops)


class _Images(Dataset[dict[str, Any]]):
    """Images without masks."""

    def __init__(self, paths: list[Path], data: SegmentationData):
        self._paths, self._data = paths, data

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = read_image(self._paths[index], self._data.bands, self._data.stretch)
        return {"image": image, "index": index}


def _example(chips: SegmentationChips, index: int, predicted: np.ndarray) -> Example:
    image = chips.load_picture(index).permute(1, 2, 0).numpy()
    return Example(image, chips.load_mask(index).numpy(), predicted)


def _save_panels(folder: Path, chips: SegmentationChips, index: int, predicted: np.ndarray) -> None:
    """Save image, truth, prediction and errors side by side."""
    panels = four_panels(_example(chips, index, predicted), chips.legend.colours)
    with replacing((folder / chips.names[index]).with_suffix(".jpg")) as path:
        Image.fromarray(panels).save(path, quality=90)
