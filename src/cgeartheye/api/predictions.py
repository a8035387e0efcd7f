"""Predictions of a model, by image: a class, the class of every pixel, or boxes."""

import html
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import pandas as pd
from PIL import Image

from cgeartheye.api.images import pixels_of
from cgeartheye.api.notebook import (
    SHOWN,
    Color,
    Pixels,
    axes_or_new,
    gallery,
    show_pictures,
)
from cgeartheye.boxes import Detections, corners_of, from_horizontal
from cgeartheye.reports.draw_boxes import draw_found
from cgeartheye.tasks.inputs import Input, load_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = np.ndarray[Any, np.dtype[np.float32]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
_OPACITY = 0.5  # of classes over the image


@dataclass(frozen=True)
class Legend:
    """Properties that all predictions of one model share.

    Attributes:
        classes: names by index.
        colors: of the classes, red, green and blue 0..255.
        shown_from: least score of a box that pictures show.
        load: returns an image that was predicted, uint8 `[3, H, W]`.
    """

    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    shown_from: float
    load: Callable[[Any], Any]


class Prediction(ABC):
    """A prediction for one image, or for the images of two dates."""

    def __init__(self, source: Input, legend: Legend) -> None:
        self._source, self._legend = source, legend

    @property
    def name(self) -> str:
        """Path of the image below the folder that was given, its file's name, or a number."""
        return self._source.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by index."""
        return self._legend.classes

    @property
    def image(self) -> Pixels:
        """The image uint8 `[H, W, 3]`, of two dates the second; a file is read anew."""
        return pixels_of(self._legend.load(self._source.images[-1]))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the prediction over its image.

        Args:
            ax: matplotlib's axes; none: those of a new figure.
        """
        ax = axes_or_new(ax)
        ax.imshow(self.picture())
        ax.set_title(self.caption(), fontsize="small")
        ax.axis("off")
        return ax

    @abstractmethod
    def picture(self) -> Pixels:
        """Return the prediction drawn over its image, uint8 `[H, W, 3]`."""

    @abstractmethod
    def caption(self) -> str:
        """Return the prediction in a few words."""

    @abstractmethod
    def rows(self) -> list[dict[str, object]]:
        """Return the prediction as rows of a table."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.caption()}>"

    def _repr_html_(self) -> str:
        return gallery([(self.picture(), self.caption())])


class ClassPrediction(Prediction):
    """The class of an image.

    Attributes:
        probabilities: of the classes, float32 `[K]`, sum 1.
    """

    def __init__(self, source: Input, legend: Legend, probabilities: Floats) -> None:
        super().__init__(source, legend)
        self.probabilities = probabilities

    @property
    def index(self) -> int:
        """Index of the class."""
        return int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        """Name of the class."""
        return self.classes[self.index]

    @property
    def score(self) -> float:
        """Its probability, 0..1."""
        return float(self.probabilities[self.index])

    def picture(self) -> Pixels:
        """Return the image."""
        return self.image

    def caption(self) -> str:
        """Return name, class and score."""
        return f"{self.name}: {self.label} {self.score:.0%}"

    def rows(self) -> list[dict[str, object]]:
        """Return one row: name, class and score."""
        return [{"name": self.name, "class": self.label, "score": self.score}]


class MaskPrediction(Prediction):
    """The class of every pixel of an image.

    Attributes:
        mask: indices of classes, uint8 `[H, W]`.
    """

    def __init__(self, source: Input, legend: Legend, mask: Pixels) -> None:
        super().__init__(source, legend)
        self.mask = mask

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels that each class has, 0..1."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes)) / self.mask.size
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def picture(self) -> Pixels:
        """Return the image with the classes' colors over it."""
        colors = np.array(self._legend.colors, np.uint8)[self.mask]
        over = Image.blend(Image.fromarray(self.image), Image.fromarray(colors), _OPACITY)
        return np.asarray(over)

    def caption(self) -> str:
        """Return name and shares of the most frequent classes."""
        most = sorted(self.shares.items(), key=lambda item: -item[1])[:3]
        return f"{self.name}: {', '.join(f'{name} {share:.0%}' for name, share in most if share)}"

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each class: name, class and share."""
        return [
            {"name": self.name, "class": name, "share": share}
            for name, share in self.shares.items()
        ]


class BoxPrediction(Prediction):
    """The objects in an image, the surest first.

    Attributes:
        boxes: float32, horizontal `[n, 4]` as x0, y0, x1, y1, or oriented `[n, 5]` as center x,
            center y, width, height and angle (radians), in pixels of the image.
        scores: float32 `[n]`, 0..1.
        labels: indices of classes, int64 `[n]`.
    """

    def __init__(self, source: Input, legend: Legend, found: Detections) -> None:
        super().__init__(source, legend)
        self._found = found
        self.boxes: Floats = found.boxes.numpy()
        self.scores: Floats = found.scores.numpy()
        self.labels: Integers = found.labels.numpy()

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """Names of the objects' classes."""
        return [self.classes[label] for label in self.labels.tolist()]

    @property
    def corners(self) -> Floats:
        """Corners of the boxes float32 `[n, 4, 2]`, x and y in pixels of the image."""
        boxes = self._found.boxes
        oriented = boxes if boxes.shape[1] == 5 else from_horizontal(boxes)
        corners: Floats = corners_of(oriented).reshape(-1, 4, 2).numpy()
        return corners

    def above(self, score_threshold: float) -> "BoxPrediction":
        """Return the objects of a score, 0..1, or more."""
        found = self._found[self._found.scores >= score_threshold]
        return BoxPrediction(self._source, self._legend, found)

    def picture(self) -> Pixels:
        """Return the image with the sure objects drawn into it; a small image is enlarged."""
        sure = self._found[self._found.scores >= self._legend.shown_from]
        return draw_found(self.image, sure, self.classes)

    def caption(self) -> str:
        """Return name and how many sure objects there are."""
        sure = int((self.scores >= self._legend.shown_from).sum())
        return f"{self.name}: {sure} object{'' if sure == 1 else 's'}"

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each object: name, class, score and the four corners."""
        ends = [f"{axis}{corner}" for corner in range(4) for axis in "xy"]
        return [
            {"name": self.name, "class": name, "score": score, **dict(zip(ends, at, strict=True))}
            for name, score, at in zip(
                self.names, self.scores.tolist(), self.corners.reshape(-1, 8).tolist(), strict=True
            )
        ]


P = TypeVar("P", bound=Prediction)


class Predictions(Sequence[P], Generic[P]):
    """Predictions for images, in order; a notebook shows the first of them."""

    def __init__(self, items: Sequence[P], write: Callable[[list[int], Path], str]) -> None:
        """Take predictions.

        Args:
            items: one for each image.
            write: writes those with some indices to a place.
        """
        self._items, self._write = list(items), write
        self._indices = list(range(len(items)))

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> P: ...
    @overload
    def __getitem__(self, index: slice) -> "Predictions[P]": ...
    def __getitem__(self, index: int | slice) -> "P | Predictions[P]":
        """Return the prediction for one image, or for some."""
        if not isinstance(index, slice):
            return self._items[index]
        some = Predictions(self._items[index], self._write)
        some._indices = self._indices[index]
        return some

    def to_frame(self) -> pd.DataFrame:
        """Return a table: of classes a row for an image, of objects a row for an object.

        Of masks it has a row for each class of an image, with its share of the pixels.
        """
        return pd.DataFrame([row for item in self._items for row in item.rows()])

    def save(self, out: str | PathLike[str]) -> Path:
        """Write the predictions as `cgeartheye predict` does.

        Args:
            out: for classes a `.csv`, `.json` or `.geojson` file; for objects one of these or a
                folder of DOTA's text files; for masks a folder.

        Returns:
            The path.

        Raises:
            UserError: an ending that does not fit, or GeoJSON of images without a place on Earth.
        """
        self._write(self._indices, Path(out))
        return Path(out)

    def plot(self, max_images: int = SHOWN) -> "list[Axes]":
        """Draw predictions over their images.

        Args:
            max_images: to draw at most.

        Returns:
            Matplotlib's axes of each image, in a new figure.
        """
        return show_pictures([(p.picture(), p.caption()) for p in self._items[:max_images]])

    def __repr__(self) -> str:
        first = "; ".join(item.caption() for item in self._items[:3])
        return f"<{len(self)} predictions: {first}{'; ...' if len(self) > 3 else ''}>"

    def _repr_html_(self) -> str:
        shown = [(item.picture(), item.caption()) for item in self._items[:SHOWN]]
        more = f"<p>{len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<p>{html.escape(repr(self))}</p>{gallery(shown)}{more}"


def loader(
    bands: tuple[int, int, int], stretch: tuple[float, float] | None
) -> Callable[[Any], Any]:
    """Return what loads an image that was predicted; see `tasks.inputs.load_image`."""
    return lambda image: load_image(image, bands, stretch)
