"""Pipeline of a detector: it is built, fed, tested and used."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cgeartheye.boxes import Detections
from cgeartheye.config import DetectionData, Normalization, ObjectDetection, to_yaml
from cgeartheye.data import (
    BoxChips,
    DetectionParts,
    box_fingerprint,
    load_detection_parts,
)
from cgeartheye.data.checks.detection import check_boxes
from cgeartheye.data.checks.findings import CheckResult
from cgeartheye.data.image_io import read_header
from cgeartheye.data.transforms.boxes import eval_view
from cgeartheye.data.transforms.image import seeded
from cgeartheye.geo.georeference import pixel_size
from cgeartheye.inference.merge_boxes import required_overlap
from cgeartheye.metrics.detection.resampling import BoxOutcomes
from cgeartheye.models.backbone import BackboneBundle
from cgeartheye.reports.detection import detection_report
from cgeartheye.reports.draw_boxes import draw_found
from cgeartheye.tasks.detection import writer
from cgeartheye.tasks.detection.module import DetectionTask, pack
from cgeartheye.tasks.inputs import Input, load_image
from cgeartheye.tasks.model_io import TestResult, device_of
from cgeartheye.tasks.pipeline import TaskPipeline
from cgeartheye.tasks.scene.writer import check_geojson
from cgeartheye.tasks.sources import SourceFactory, Views
from cgeartheye.tasks.verdict import judge_boxes, name_some
from cgeartheye.training import distributed
from cgeartheye.training.loaders import Batch, FeatureSource, FileSource, Key, Source
from cgeartheye.training.run_dir import environment, read_history
from cgeartheye.training.trainer import Data, evaluate
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image

_MANY_IMAGES = 100_000  # that a query detector sees in training before it is worth much
_OBJECTS = ("boxes", "labels", "ignored")  # of a sample; as many as the image has


class DetectionPipeline(TaskPipeline):
    """See `TaskPipeline`."""

    config: ObjectDetection

    def __init__(self, config: ObjectDetection):
        self.config = config

    @cached_property
    def parts(self) -> DetectionParts:
        """The images and boxes of each part."""
        return load_detection_parts(self.config.data)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the data."""
        return self.parts.classes

    def gsd(self) -> float | None:
        """GSD in m/px of test images once they are resized."""
        data, first = self.config.data, self.parts.train.paths[0]
        pixel = data.gsd or pixel_size(first)
        header = read_header(first)
        if pixel and data.resize:
            return pixel * max(header.width, header.height) / data.image_size
        return pixel

    def facts(self) -> dict[str, float | None]:
        """Return what mapping needs of the data: the size of the largest object, pixels."""
        return {"largest": self.parts.train.largest_side()}

    def published_decoder(
        self, path: Path, tensors: Mapping[str, Tensor], classes: int
    ) -> dict[str, Tensor]:
        """See `TaskPipeline`; the detector has mmdetection's names."""
        parts = (
            "neck.",
            "level_embed",
            "encoder.",
            "memory_trans_",
            "query_embedding.",
            "decoder.",
            "bbox_head.",
            "dn_query_generator.",
        )
        state = {name: tensor for name, tensor in tensors.items() if name.startswith(parts)}
        if not self.config.decoder.num_dn_queries:
            state.pop("dn_query_generator.label_embedding.weight", None)
        last = state.get("bbox_head.cls_branches.0.weight")
        if last is None or self.config.decoder.kind != "dino":
            raise UserError(
                f"{path} holds no DINO (neck, encoder, decoder, bbox_head) for decoder.kind=dino: "
                "name a run directory, or train with backbone.weights set to this file"
            )
        if len(last) != classes:
            raise UserError(
                f"{path} knows {len(last)} classes, the data in {self.config.data.root} have "
                f"{classes}: test it on the data that it was trained on"
            )
        return state

    def data(self, task: DetectionTask, built: BackboneBundle) -> Data:
        """See `TaskPipeline`; a training part without objects is an error too."""
        if not self.parts.train.most_boxes:
            raise UserError(
                f"no image of the part '{self.config.data.train}' in {self.config.data.root} has "
                "an object, so there is nothing to learn: correct data.annotations or data.train"
            )
        if not self.parts.val.most_boxes:
            warn(
                f"no image of the part '{self.config.data.val}' has an object: average precision "
                "is not defined, and the newest model is kept, not the best"
            )
        self._warn_of_cut_objects()
        self._warn_of_too_many_objects()
        self._warn_of_few_steps()
        batch, sources = self.config.data.batch_size, SourceFactory(self.config, task, built)
        return Data(
            train=self._training_source(sources, task),
            train_batch=batch,
            val=self._test_source(sources, task, self.parts.val),
            val_batch=batch,
        )

    def training_files(self, sources: SourceFactory) -> FileSource:
        """Return the source of training images in files."""
        return sources.files(self.parts.train, _OBJECTS)

    def check_out(self, out: Path, tested: bool) -> None:
        """Refuse a table in an unknown format; GeoJSON is for georeferenced images."""
        writer.check_ending(out, tested)

    def test(
        self, task: DetectionTask, built: BackboneBundle, out: Path | None, show_dir: Path | None
    ) -> TestResult:
        """See `TaskPipeline`."""
        started = time.monotonic()
        config, chips, device = self.config, self.parts.test, device_of(task)
        source = self._test_source(SourceFactory(config, task, built), task, chips)
        metrics = evaluate(task, source, config.data.batch_size, config.training.precision)
        threshold = metrics.score_threshold
        found = {
            int(number): metrics.tested.detections(place)
            for place, number in enumerate(metrics.tested.images)
        }

        def load_image(index: int) -> np.ndarray:
            return chips.load_image_stack(index).permute(1, 2, 0).numpy()

        def report(path: Path) -> None:
            if out:
                rows = [
                    writer.Row(chips.paths[n], chips.names[n], found[n], chips.image_ids[n])
                    for n in found
                ]
                writer.write_boxes(out, rows, chips.classes, chips.category_ids)
            if show_dir:
                self._save_pictures(show_dir, chips, found, threshold)
            assert config.work_dir is not None
            detection_report(
                path,
                title=config.work_dir.name,
                classes=chips.classes,
                metrics=metrics,
                history=read_history(config.work_dir),
                names=chips.names,
                load_image=load_image,
                config_yaml=to_yaml(config),
                environment={
                    **environment(device),
                    "test": f"{time.monotonic() - started:.1f} s",
                },
                part=self.tested_part,
                verdict=verdict,
            )

        facts = {"score": threshold} if threshold < 1 else {}  # 1: nothing that is right was found
        support = [outcome.support for outcome in metrics.outcomes]
        verdict = self.verdict(judge_boxes(metrics, chips.classes), support, chips.classes)
        return TestResult(
            metrics.compute(), report, facts, self.tested_part, verdict, BoxOutcomes.of(metrics)
        )

    def predict(self, task: DetectionTask, inputs: Sequence[Input]) -> Iterator[Detections]:
        """Yield the objects in each image, in pixels of the image."""
        config = self.config
        images = _Images(inputs, config.data)
        source = FileSource(images, config.data.workers, device_of(task), self._listed())
        for prediction in self.predictions(task, source):
            for found in prediction:
                yield found.cpu()

    def write(
        self,
        classes: tuple[str, ...],
        inputs: Sequence[Input],
        predictions: Iterable[Detections],
        out: Path,
        dem: str | None = None,
    ) -> str:
        """See `TaskPipeline`; a table in a format of `writer.write_boxes`."""
        check_geojson(out, [one.path for one in inputs], dem)
        rows = [
            writer.Row(one.path, one.name, found, given=str(one.path or one.name))
            for one, found in zip(inputs, predictions, strict=True)
        ]
        writer.write_boxes(out, rows, classes, dem=dem)
        counts: Counter[str] = Counter()
        for row in rows:
            sure = row.preds.labels[row.preds.scores >= writer.LEAST_SCORE]
            counts.update(classes[label] for label in sure.tolist())
        found = [f"{count} {name}" for name, count in counts.most_common()]
        return f"{len(rows)} images: {name_some(found, 8) or 'nothing found'}"

    def check(self, normalization: Normalization, progress: Any) -> CheckResult:
        """Examine the data."""
        return check_boxes(self.config.data, normalization, progress)

    def _warn_of_cut_objects(self) -> None:
        """Warn where windows would cut the largest objects."""
        config, largest = self.config, self.parts.train.largest_side()
        if config.data.resize or largest is None:
            return
        needed = required_overlap(largest, config.data.image_size)
        if needed > config.window.overlap:
            warn(
                f"windows that overlap by {config.window.overlap:.0%} cut the largest object "
                f"({largest:.0f} pixels): set window.overlap={needed:.2f} or a larger "
                "data.image_size"
            )

    def _warn_of_too_many_objects(self) -> None:
        """Warn where an image has more objects than can be learned or kept."""
        queries, kept = self.config.decoder.queries, self.config.max_detections
        learnt, tested = self.parts.train.most_boxes, self.parts.val.most_boxes
        if learnt > queries and self.config.decoder.kind == "dino":
            warn(
                f"decoder.queries={queries} is fewer than the objects of an image ({learnt}): set "
                f"it to about {2 * learnt}, or cut the images into smaller ones"
            )
        if tested > kept and self.config.data.resize:
            warn(
                f"max_detections={kept} keeps fewer boxes than an image has ({tested}): set it to "
                f"about {2 * tested}"
            )

    def _warn_of_few_steps(self) -> None:
        """Warn where the query detector will hardly have begun to learn (docs/benchmarks.md)."""
        training, data = self.config.training, self.config.data
        seen = training.epochs * len(self.parts.train)
        if training.steps:
            seen = training.steps * data.batch_size * training.grad_accum_steps
            seen *= distributed.world_size()
        if self.config.decoder.kind == "dino" and seen < _MANY_IMAGES:
            warn(
                f"the query detector (decoder.kind=dino) learns slowly: its published training "
                f"sees 700,000 images, this one {seen:,}; decoder.kind=light learns from few"
            )

    def _listed(self) -> tuple[str, ...]:
        """Fields of tests whose tensors differ in size."""
        return _OBJECTS if self.config.data.resize else (*_OBJECTS, "image")

    def _training_source(self, sources: SourceFactory, task: DetectionTask) -> Source:
        """Return where training batches come from: the cache, or files."""
        chips = self.parts.train

        @cache
        def facts() -> dict[str, object]:
            return self._facts(
                chips, {"scale", "flips", "color_jitter", "min_visibility", "min_box_size"}
            )

        def beside_objects(features: np.ndarray) -> Source:
            views = self._views(_Crops(chips, "objects"))
            shape = max(chips.most_boxes, 1), (8 if task.oriented else 4) + 1
            objects = sources.labels_of("objects", views, facts(), shape, np.float32)
            return FeatureSource({"features": features, "objects": objects}, sources.device)

        views = self._views(_Crops(chips, "image"))
        return sources.features_of(views, facts, beside_objects, sources.files(chips, _OBJECTS))

    def _test_source(self, sources: SourceFactory, task: DetectionTask, chips: BoxChips) -> Source:
        """Return where test images come from: the cache, or files."""
        source = sources.files(chips, self._listed())
        # Features of an image do not give those of its mirror image, nor those of its windows.
        if not self.config.data.resize or task.tta:
            return source
        return sources.features_of(
            Views(len(chips), 0, 0, _TestViews(chips)),
            lambda: self._facts(chips, set()),
            lambda features: _EncodedChips(features, chips, sources.device),
            source,
        )

    def _facts(self, chips: BoxChips, drawn: set[str]) -> dict[str, object]:
        """Return all that views of images depend on."""
        pixels = {"image_size", "resize", "bands", "stretch", "boxes"} | drawn
        return {
            "images": self.config.data.model_dump(mode="json", include=pixels),
            "data": box_fingerprint(chips),
        }

    def _views(self, load: "_Crops") -> Views:
        cache = self.config.cache
        return Views(len(load.chips), cache.views, cache.seed, load)

    def _save_pictures(
        self, folder: Path, chips: BoxChips, found: Mapping[int, Detections], threshold: float
    ) -> None:
        for index, boxes in found.items():
            picture = chips.load_image_stack(index).permute(1, 2, 0).numpy()
            drawn = draw_found(picture, boxes[boxes.scores >= threshold], chips.classes)
            path = (folder / chips.names[index]).with_suffix(".jpg")
            write_image(path, Image.fromarray(drawn), quality=90)


class _Crops:
    """Loads the training crops of an image that some seeds give, or the objects in them."""

    def __init__(self, chips: BoxChips, what: str):
        self.chips, self._what = chips, what

    def __call__(self, index: int, seeds: list[int]) -> Tensor:
        loaded = self.chips.load_training(index)
        crops = []
        for seed in seeds:
            with seeded(seed):
                image, boxes, labels, _ = self.chips.train_view(*loaded)
            if self._what == "image":
                crops.append(image.as_subclass(Tensor))
            else:
                rows = max(self.chips.most_boxes, 1)
                crops.append(pack(boxes.as_subclass(Tensor), labels, rows))
        return torch.stack(crops)


class _TestViews:
    """Loads what a test sees of an image."""

    def __init__(self, chips: BoxChips):
        self._chips = chips

    def __call__(self, index: int, seeds: list[int]) -> Tensor:
        chips = self._chips
        view = eval_view(chips.load_image_stack(index), chips.image_size, chips.resize)
        return torch.stack([view.as_subclass(Tensor)])


class _EncodedChips:
    """Reads the feature maps of images that were encoded before, and their boxes; see `Source`."""

    def __init__(self, features: np.ndarray, chips: BoxChips, device: torch.device):
        self._features, self._chips, self._device = features, chips, device
        headers = (read_header(path) for path in chips.paths)
        self._sizes = torch.tensor([(header.height, header.width) for header in headers])

    def __len__(self) -> int:
        return len(self._chips)

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """Yield `features`, `boxes`, `labels`, `ignored`, `size` and `index`."""
        for keys in batches:
            indices = [key[0] if isinstance(key, tuple) else key for key in keys]
            objects = [self._chips.load_boxes(index) for index in indices]
            features = torch.from_numpy(self._features[indices, 0]).to(self._device)
            yield {
                "features": features.float(),
                "size": self._sizes[indices],
                "index": torch.tensor(indices),
                **{
                    name: [one[place].to(self._device) for one in objects]
                    for place, name in enumerate(_OBJECTS)
                },
            }


class _Images(Dataset[dict[str, Any]]):
    """Images without boxes, as a test sees them."""

    def __init__(self, inputs: Sequence[Input], data: DetectionData):
        self._inputs, self._data = inputs, data

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        data = self._data
        (file,) = self._inputs[index].images
        image = load_image(file, data.bands, data.stretch)
        view = eval_view(image, data.image_size, data.resize)
        return {"image": view, "size": torch.tensor(image.shape[1:]), "index": index}
