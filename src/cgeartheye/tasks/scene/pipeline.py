"""Pipeline of a scene classifier: it is built, fed, tested and used."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.config import Normalization, SceneClassification, SceneData
from cgeartheye.data import (
    SceneChips,
    SceneParts,
    eval_transform,
    fingerprint,
    load_parts,
)
from cgeartheye.data.checks.findings import CheckResult
from cgeartheye.data.checks.scene import check_scenes
from cgeartheye.data.image_io import read_header
from cgeartheye.geo.georeference import pixel_size
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.models.linear import LightClassifier
from cgeartheye.tasks.inputs import Input, load_image
from cgeartheye.tasks.model_io import TestResult, device_of
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.scene import writer
from cgeartheye.tasks.scene.module import ScenePrediction, SceneTask
from cgeartheye.tasks.scene.report import save_pictures, write_report
from cgeartheye.tasks.sources import SourceFactory, Views
from cgeartheye.tasks.verdict import judge_labels, name_some
from cgeartheye.training import distributed
from cgeartheye.training.loaders import Batch, FeatureSource, FileSource, Source
from cgeartheye.training.trainer import Data, autocast, evaluate
from cgeartheye.utils.console import bar
from cgeartheye.utils.errors import UserError

Piece = tuple[np.ndarray, ...]

_SEEN = 2000  # training images whose features are standardised by


class ScenePipeline(TaskPipeline):
    """See `TaskPipeline`."""

    config: SceneClassification

    def __init__(self, config: SceneClassification):
        self.config = config

    @cached_property
    def parts(self) -> SceneParts:
        """The images and labels of each part."""
        return load_parts(self.config.data)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the data."""
        return self.parts.classes

    def gsd(self) -> float | None:
        """GSD in m/px of test images once they are resized."""
        data, first = self.config.data, self.parts.train.paths[0]
        pixel = data.gsd or pixel_size(first)
        header = read_header(first)
        return pixel and pixel * min(header.width, header.height) / data.resize_to

    def published_decoder(
        self, path: Path, tensors: Mapping[str, Tensor], classes: int
    ) -> dict[str, Tensor]:
        """See `TaskPipeline`; the classifier has mmpretrain's names."""
        head = {name: tensors.get(f"head.fc.{name}") for name in ("weight", "bias")}
        weight, bias = head["weight"], head["bias"]
        if weight is None or bias is None or self.config.decoder.kind != "linear":
            raise UserError(
                f"{path} holds no classifier (head.fc.weight, head.fc.bias) for "
                "decoder.kind=linear: name a run directory, or train with backbone.weights set to "
                "this file"
            )
        if len(weight) != classes:
            raise UserError(
                f"{path} knows {len(weight)} classes, the data in {self.config.data.root} have "
                f"{classes}: test it on the data that it was trained on"
            )
        return {"weight": weight, "bias": bias}

    def data(self, task: SceneTask, built: BackboneBundle) -> Data:
        """Return what is trained on and evaluated on."""
        batch, sources = self.config.data.batch_size, SourceFactory(self.config, task, built)
        train = self._source(sources, self.parts.train, self.config.cache.views)
        if isinstance(task.decoder, LightClassifier):
            task.decoder.standardise(self._some_features(task, train))
        return Data(
            train=train,
            train_batch=batch,
            val=self._source(sources, self.parts.val, views=0),
            val_batch=batch,
        )

    def _some_features(self, task: SceneTask, train: Source) -> Tensor:
        """Return features of views of at most `_SEEN` training images, `[N, C]`."""
        some = np.linspace(0, len(train) - 1, min(_SEEN, len(train))).astype(int).tolist()
        size = self.config.cache.images_at_once(device_of(task).type)
        batches = [[(n, n) for n in some[at : at + size]] for at in range(0, len(some), size)]
        found = []
        task.eval()
        with bar("standardising", len(some), "images") as progress, torch.no_grad():
            for batch in train.load(batches):
                with autocast(device_of(task), self.config.training.precision):
                    found.append(task.features(batch).float())
                progress.advance(len(found[-1]))
        return torch.cat(found)

    def training_files(self, sources: SourceFactory) -> FileSource:
        """Return the source of training images in files."""
        return sources.files(self.parts.train)

    def check_out(self, out: Path, tested: bool) -> None:
        """Refuse a table in an unknown format; GeoJSON is for georeferenced images."""
        writer.check_ending(out, writer.ENDINGS[:2] if tested else writer.ENDINGS)

    def test(
        self, task: SceneTask, built: BackboneBundle, out: Path | None, show_dir: Path | None
    ) -> TestResult:
        """See `TaskPipeline`."""
        started = time.monotonic()
        config, chips = self.config, self.parts.test
        sources = SourceFactory(config, task, built)
        # Features of an image do not give those of its mirror image.
        source = sources.files(chips) if task.tta else self._source(sources, chips, views=0)
        pieces: list[Piece] = []

        def keep(prediction: ScenePrediction, batch: Batch) -> None:
            tokens = prediction.features[:, : task.backbone.embed_dim].float()
            tensors = batch["index"], prediction.probabilities, tokens
            pieces.append(tuple(tensor.cpu().numpy() for tensor in tensors))

        metrics = evaluate(task, source, config.data.batch_size, config.training.precision, keep)
        everything = [piece for share in distributed.gather(pieces) for piece in share]
        order = np.argsort(np.concatenate([piece[0] for piece in everything]))
        probabilities = np.concatenate([piece[1] for piece in everything])[order]
        tokens = np.concatenate([piece[2] for piece in everything])[order]

        def report(path: Path) -> None:
            if out:
                writer.write_rows(out, _rows(chips, probabilities), chips.classes)
            if show_dir:
                save_pictures(show_dir, chips, probabilities)
            write_report(
                path,
                config,
                task,
                chips,
                metrics,
                probabilities,
                tokens,
                started,
                self.tested_part,
                verdict,
            )

        confusion = metrics.confusion
        found = judge_labels(confusion, chips.classes)
        verdict = self.verdict(found, confusion.support.tolist(), chips.classes)
        hits = probabilities.argmax(1) == np.array(chips.labels)
        return TestResult(
            metrics.compute(),
            report,
            part=self.tested_part,
            outcomes=hits.astype(np.float64),
            verdict=verdict,
        )

    def predict(self, task: SceneTask, inputs: Sequence[Input]) -> Iterator[np.ndarray]:
        """Yield the probabilities float32 `[classes]` of each image."""
        config = self.config
        source = FileSource(_Images(inputs, config.data), config.data.workers, device_of(task))
        for prediction in self.predictions(task, source):
            yield from prediction.probabilities.cpu().numpy()

    def write(
        self,
        classes: tuple[str, ...],
        inputs: Sequence[Input],
        predictions: Iterable[np.ndarray],
        out: Path,
        dem: str | None = None,
    ) -> str:
        """See `TaskPipeline`; a table in a format of `writer.write_rows`."""
        writer.check_geojson(out, [one.path for one in inputs], dem)
        rows = [
            writer.Row(str(one.path or one.name), scores, path=one.path)
            for one, scores in zip(inputs, predictions, strict=True)
        ]
        writer.write_rows(out, rows, classes, dem)
        counts = Counter(classes[int(row.probabilities.argmax())] for row in rows)
        found = [f"{count} {name}" for name, count in counts.most_common()]
        return f"{len(rows)} images: {name_some(found, 8)}"

    def check(self, normalization: Normalization, progress: Any) -> CheckResult:
        """Examine the data."""
        return check_scenes(self.config, normalization, progress)

    def _source(self, sources: SourceFactory, chips: SceneChips, views: int) -> Source:
        """Return where batches of chips come from: the cache, or files.

        Args:
            sources: of the task.
            chips: one part of the data.
            views: augmented views of each chip that the cache keeps; 0: the one that tests see.
        """
        labels = np.array(chips.labels)[:, None]
        return sources.features_of(
            chip_views(self.config, chips, views),
            lambda: chip_facts(self.config.data, chips, augmented=views > 0),
            lambda features: FeatureSource({"features": features, "label": labels}, sources.device),
            sources.files(chips),
        )


def chip_facts(data: SceneData, chips: SceneChips, augmented: bool) -> dict[str, object]:
    """Return all that views of chips depend on.

    Args:
        data: its fields define the view of an image.
        chips: the images.
        augmented: as in training, not as in a test.
    """
    pixels = {"image_size", "bands", "stretch"} | ({"crop_area"} if augmented else set())
    return {
        "images": data.model_dump(mode="json", include=pixels),
        "resize_to": None if augmented else data.resize_to,
        "data": fingerprint(chips),
    }


def chip_views(config: SceneClassification, chips: SceneChips, views: int) -> Views:
    """Return the views of chips whose features are encoded.

    Args:
        config: whose augmentation is used.
        chips: the images.
        views: of each image, at least 1.
    """
    return Views(len(chips), views, config.cache.seed, chips.load_views)


class _Images(Dataset[dict[str, Any]]):
    """Images without labels, as a test sees them."""

    def __init__(self, inputs: Sequence[Input], data: SceneData):
        self._inputs, self._data = inputs, data
        self._transform = eval_transform(data.image_size, data.resize_to)

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (file,) = self._inputs[index].images
        image = load_image(file, self._data.bands, self._data.stretch)
        return {"image": self._transform(tv_tensors.Image(image)), "index": index}


def _rows(chips: SceneChips, probabilities: np.ndarray) -> list[writer.Row]:
    return [
        writer.Row(name, scores, chips.classes[label])
        for name, scores, label in zip(chips.names, probabilities, chips.labels, strict=True)
    ]
