"""The interfaces of the models that map."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cgeartheye.boxes import Detections


class Model(Protocol):
    """Properties that every model has."""

    @property
    def classes(self) -> Sequence[str]:
        """Names, by value in the map, or by label."""

    @property
    def window(self) -> int:
        """Pixels a side of what it sees at a time."""

    @property
    def gsd(self) -> float | None:
        """GSD in m/px that it was trained with, if known."""

    @property
    def device(self) -> torch.device:
        """Device of the model."""


class Predictor(Model, Protocol):
    """A model that predicts the class of pixels, or of windows as wholes."""

    def predict(self, images: Tensor) -> Tensor:
        """Predict probabilities, which sum to 1.

        Args:
            images: uint8 `[B, 3, S, S]` on the device; of two dates `[B, 6, S, S]`.

        Returns:
            float32 `[B, K, S, S]` of every pixel, or `[B, K]` of the windows as wholes.
        """


@runtime_checkable
class Detector(Model, Protocol):
    """A model that finds objects."""

    @property
    def oriented(self) -> bool:
        """Return whether its boxes are oriented."""

    @property
    def max_object_size(self) -> float | None:
        """Size of the largest object of its training set in pixels, if known.

        The longer side of a horizontal box, the diagonal of an oriented one.
        """

    @property
    def score_threshold(self) -> float | None:
        """The least score of a detection that counts, if known."""

    def predict(self, images: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            images: uint8 `[B, 3, S, S]` on the device.

        Returns:
            Of each image its objects, in its pixels.
        """


@runtime_checkable
class Encoder(Model, Protocol):
    """A backbone whose features are mapped; it has no classes."""

    @property
    def patch_size(self) -> int:
        """Pixels a side of a patch that has a vector; that of `window`: windows as wholes."""

    @property
    def embed_dim(self) -> int:
        """Numbers of a vector."""

    @property
    def num_components(self) -> int:
        """Principal components of a patch's vector that are kept, 1..`embed_dim`."""

    @property
    def dtype(self) -> str:
        """Type in which they are kept: int8 or float16."""

    def predict(self, images: Tensor) -> Tensor:
        """Encode windows.

        Args:
            images: uint8 `[B, 3, S, S]` on the device.

        Returns:
            float32 `[B, C, S/patch, S/patch]`, or `[B, C]` of windows as wholes.
        """


AnyModel = Predictor | Detector | Encoder

WindowPredictions = Iterator[tuple[list[int], Any]]
"""Batches of windows of one row: the columns where they start, and what the model predicts."""
