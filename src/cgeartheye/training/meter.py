"""Losses, speed and waiting of a training, since they were last read."""

import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from cgeartheye.training import distributed

T = TypeVar("T")


class Meter:
    """Adds up over steps without waiting for the device.

    Attributes:
        text: the last reading, for a progress bar.
        steps: that were added since.
    """

    def __init__(self) -> None:
        self.text = ""
        self.start()

    def start(self) -> None:
        """Forget what was added, and start the clock."""
        self._values: dict[str, Tensor] = {}
        self._samples = self.steps = 0
        self._waited = 0.0
        self._begin = time.perf_counter()

    def wait(self, batches: Iterator[T]) -> T:
        """Return the next batch, and note how long it took."""
        begin = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - begin
        return batch

    def add(self, values: Mapping[str, Tensor], samples: int) -> None:
        """Note a step: numbers of this process, the same names each time; samples of all."""
        for name, value in values.items():
            value = value.detach().float()
            self._values[name] = self._values[name] + value if name in self._values else value
        self._samples += samples
        self.steps += 1

    def read(self) -> dict[str, float]:
        """Return means over steps and processes, images/s and the share of time without data."""
        figures = {}
        if self._values:
            sums = distributed.all_sum(torch.stack(list(self._values.values())))
            means = (sums / self.steps / distributed.world_size()).tolist()
            figures = dict(zip(self._values, means, strict=True))
        seconds = time.perf_counter() - self._begin
        rate, waited = self._samples / seconds, self._waited / seconds
        self.text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.text += f"  {rate:,.0f} images/s  data wait {waited:.0%}"
        self.start()
        return figures | {"images_per_s": rate, "data_wait": waited}
