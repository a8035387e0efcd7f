"""Pipeline of a model that gives every pixel a class: it is built, fed, tested and used."""

import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision import tv_tensors

from cgeartheye.config import Color, to_yaml
from cgeartheye.data import ChangeParts, Legend, MaskedChips, SegmentationParts, fingerprint_masks
from cgeartheye.data.datasets.segmentation import refuse_sizes
from cgeartheye.data.image_io import read_header
from cgeartheye.data.transforms.image import seeded
from cgeartheye.geo.georeference import pixel_size
from cgeartheye.inference.sliding_window import count_windows
from cgeartheye.metrics.classification import ConfusionMatrix
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.reports.examples import Example
from cgeartheye.tasks.dense.cached_windows import WindowSource, encode_windows
from cgeartheye.tasks.dense.module import DenseConfig, DenseTask
from cgeartheye.tasks.dense.writer import check_names, write_mask
from cgeartheye.tasks.inputs import Input
from cgeartheye.tasks.model_io import TestResult, device_of
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.sources import SourceFactory, Views
from cgeartheye.tasks.verdict import judge_pixels, name_some
from cgeartheye.training import distributed
from cgeartheye.training.loaders import Batch, FeatureSource, FileSource, Source
from cgeartheye.training.run_dir import environment, read_history
from cgeartheye.training.trainer import Data, evaluate
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image

Parts = SegmentationParts | ChangeParts


class DensePipeline(TaskPipeline):
    """See `TaskPipeline`; what differs between the tasks is at the top.

    Attributes:
        images: what the samples of the data call their images.
    """

    config: DenseConfig
    images: tuple[str, ...]

    @property
    @abstractmethod
    def parts(self) -> Parts:
        """The pictures and masks of each part."""

    @property
    @abstractmethod
    def legend(self) -> Legend:
        """The classes of the data, and how its masks encode them."""

    @abstractmethod
    def unlabeled(self, inputs: Sequence[Input]) -> Dataset[dict[str, Any]]:
        """Return pictures without masks, named as those of the data."""

    @abstractmethod
    def panels(self, example: Example) -> np.ndarray:
        """Draw a picture, its truth and its prediction side by side."""

    @abstractmethod
    def score(self, confusion: ConfusionMatrix) -> float:
        """Return how good the prediction of a picture is, 0..1; NaN if there is no telling."""

    @property
    @abstractmethod
    def write_report(self) -> Callable[..., None]:
        """Return the function that writes `report.html`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the data."""
        return self.legend.classes

    @property
    def colors(self) -> tuple[Color, ...]:
        """Of the data."""
        return self.legend.colors

    def gsd(self) -> float | None:
        """GSD in m/px of the images."""
        return self.config.data.gsd or pixel_size(self.parts.train.paths[0])

    def data(self, task: DenseTask, built: BackboneBundle) -> Data:
        """Return what is trained on and evaluated on."""
        config, sources = self.config, SourceFactory(self.config, task, built)
        return Data(
            train=self._training_source(sources, task),
            train_batch=config.data.batch_size,
            val=self._validation_source(sources, task),
            val_batch=config.data.batch_size,
        )

    def training_files(self, sources: SourceFactory) -> FileSource:
        """Return the source of training images in files."""
        return sources.files(self.parts.train)

    def check_out(self, out: Path, tested: bool) -> None:
        """See `TaskPipeline`; masks need a folder."""
        if out.is_file() or out.suffix:
            raise UserError(f"{out}: masks go into a folder, one for each image: name one")

    def test(
        self, task: DenseTask, built: BackboneBundle, out: Path | None, show_dir: Path | None
    ) -> TestResult:
        """See `TaskPipeline`."""
        started = time.monotonic()
        config, chips, device = self.config, self.parts.test, device_of(task)
        whole = (*self.images, "mask")  # they differ in size from sample to sample
        if out:
            check_names(zip(map(str, chips.paths), chips.names, strict=True))
        found: list[tuple[int, float, np.ndarray]] = []

        def keep(prediction: list[Tensor], batch: Batch) -> None:
            for index, classes, mask in zip(
                batch["index"].tolist(), prediction, batch["mask"], strict=True
            ):
                confusion = ConfusionMatrix(len(task.classes))
                confusion.update(classes, mask)
                found.append((index, self.score(confusion), confusion.counts.numpy()))
                predicted = classes.cpu().numpy()
                if out:
                    write_mask(out, chips.names[index], predicted, chips.legend, chips.paths[index])
                if show_dir:
                    panels = Image.fromarray(self.panels(_example(chips, index, predicted)))
                    path = (show_dir / chips.names[index]).with_suffix(".jpg")
                    write_image(path, panels, quality=90)

        source = FileSource(chips, config.data.workers, device, whole)
        metrics = evaluate(task, source, config.data.batch_size, config.training.precision, keep)
        ious = np.full(len(chips), np.nan)
        outcomes = np.zeros((len(chips), len(task.classes), len(task.classes)), np.int64)
        for share in distributed.gather(found):
            for index, iou, counts in share:
                ious[index], outcomes[index] = iou, counts

        def load_example(index: int) -> Example:
            """Predict once more: not every mask of a large test can be kept."""
            one = FileSource(Subset(chips, [index]), 0, device, whole)
            (prediction,) = self.predictions(task, one)
            return _example(chips, index, prediction[0].cpu().numpy())

        def report(path: Path) -> None:
            assert config.work_dir is not None
            self.write_report(
                path,
                title=config.work_dir.name,
                classes=chips.legend.classes,
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
                part=self.tested_part,
                verdict=verdict,
            )

        confusion, classes = metrics.confusion, chips.legend.classes
        stands_out = judge_pixels(confusion, classes, config.task == "change_detection")
        verdict = self.verdict(stands_out, confusion.support.tolist(), classes)
        return TestResult(
            metrics.compute(),
            report,
            part=self.tested_part,
            outcomes=outcomes,
            verdict=verdict,
        )

    def predict(self, task: DenseTask, inputs: Sequence[Input]) -> Iterator[np.ndarray]:
        """Yield the class of every pixel uint8 `[H, W]` of each picture."""
        config = self.config
        pictures = self.unlabeled(inputs)
        source = FileSource(pictures, config.data.workers, device_of(task), self.images)
        for prediction in self.predictions(task, source):
            for classes in prediction:
                yield classes.cpu().numpy()

    def write(
        self,
        classes: tuple[str, ...],
        inputs: Sequence[Input],
        predictions: Iterable[np.ndarray],
        out: Path,
        dem: str | None = None,
    ) -> str:
        """See `TaskPipeline`; a mask for each image, see `write_mask`."""
        check_names((one.image_names[0], one.name) for one in inputs)
        pixels: Counter[str] = Counter()
        for one, labels in zip(inputs, predictions, strict=True):
            write_mask(out, one.name, labels, self.legend, one.path)
            counts = np.bincount(labels.ravel(), minlength=len(classes)).tolist()
            pixels.update(dict(zip(classes, counts, strict=True)))
        shares = [f"{n / pixels.total():.1%} {name}" for name, n in pixels.most_common() if n]
        return f"{len(inputs)} predicted: {name_some(shares, 8)}"

    def _training_source(self, sources: SourceFactory, task: DenseTask) -> Source:
        """Return where training batches come from: the cache, or files."""
        chips, data = self.parts.train, self.config.data
        drawn = {"image_size", "scale", "max_class_ratio", "color_jitter", "rotation"}
        drawn |= {"bands", "stretch"}

        @cache
        def facts() -> dict[str, object]:
            crops = data.model_dump(mode="json", include=drawn)
            return {"crops": crops, "data": fingerprint_masks(chips)}

        def beside_masks(features: np.ndarray) -> Source:
            views, shape = self._views(_Crops(chips, "mask")), (task.side, task.side)
            masks = sources.labels_of("masks", views, facts(), shape, np.uint8)
            return FeatureSource({"features": features, "mask": masks}, sources.device)

        views = self._views(_Crops(chips, "image"))
        return sources.features_of(views, facts, beside_masks, sources.files(chips))

    def _validation_source(self, sources: SourceFactory, task: DenseTask) -> Source:
        """Return where validation images come from: the cache of their windows, or files."""
        config, chips = self.config, self.parts.val
        source = sources.files(chips, (*self.images, "mask"))
        if not sources.caches:
            return source
        headers = [read_header(path) for path in chips.paths]
        shapes = [(header.height, header.width) for header in headers]
        side, overlap = task.side, config.window.overlap
        ends = np.cumsum([0, *(count_windows(*shape, side, overlap) for shape in shapes)]).tolist()
        return sources.cached(
            (ends[-1], 1),
            lambda: encode_windows(config, task, source, ends),
            lambda: {
                "windows": [side, overlap],
                "pixels": config.data.model_dump(mode="json", include={"bands", "stretch"}),
                "data": fingerprint_masks(chips),
            },
            f"{ends[-1]:,} windows",
            lambda features: WindowSource(features, ends, shapes, chips, sources.device),
            source,
        )

    def _views(self, load: "_Crops") -> Views:
        count, config = len(load.chips), self.config
        return Views(count, config.cache.views, config.cache.seed, load)


class _Crops:
    """Loads the training crops of an image that some seeds give, or their masks."""

    def __init__(self, chips: MaskedChips, what: str):
        self.chips, self._what = chips, what

    def __call__(self, index: int, seeds: list[int]) -> Tensor:
        chips = self.chips
        image = tv_tensors.Image(chips.load_image_stack(index))
        mask = tv_tensors.Mask(chips.load_mask(index))
        refuse_sizes(chips.paths[index], image, chips.mask_paths[index], mask)
        crops = []
        for seed in seeds:
            with seeded(seed):
                crop, labels = chips.train_view(image, mask)
            crops.append((crop if self._what == "image" else labels).as_subclass(Tensor))
        return torch.stack(crops)


def _example(chips: MaskedChips, index: int, predicted: np.ndarray) -> Example:
    picture = chips.load_image_stack(index).permute(1, 2, 0).numpy()
    images = tuple(picture[..., band : band + 3] for band in range(0, picture.shape[2], 3))
    return Example(images, chips.load_mask(index).numpy(), predicted)
