"""Sources of batches: image files, or features that were encoded before."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from cgeartheye.utils.errors import UserError

Batch = dict[str, Any]  # tensors `[B, ...]`, or lists of B tensors where their sizes differ
# A sample as it is (a test), or with the seed of its augmentation (training).
Key = int | tuple[int, int]


class Source(Protocol):
    """A data set that is read in batches."""

    def __len__(self) -> int:
        """Number of samples."""

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """Yield one batch for each list of keys, in order, on the device.

        Raises:
            UserError: a sample cannot be read.
        """


class FileSource:
    """Reads samples from files in worker processes, ahead of their use."""

    def __init__(
        self,
        samples: Dataset[dict[str, Any]],
        workers: int,
        device: torch.device,
        listed: tuple[str, ...] = (),
    ):
        """Take a data set.

        Args:
            samples: dicts of tensors and numbers.
            workers: loader processes; 0: this one.
            device: where batches go.
            listed: fields whose tensors may differ in size, so that batches have lists of them.
        """
        self._samples = _ErrorsAsValues(samples)
        self._keys = _Keys()
        self._device = device
        self._loader: DataLoader[Any] = DataLoader(
            self._samples,
            batch_sampler=self._keys,
            num_workers=workers,
            collate_fn=partial(_collate, listed),
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return len(self._samples)

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """Yield the batches; see `Source`."""
        self._keys.batches = batches
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield to_device(batch, self._device)


class FeatureSource:
    """Reads features that were encoded before (see `feature_cache.py`)."""

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device):
        """Take the fields of batches, `[samples, views, ...]` each; `features` are float16."""
        self._arrays, self._device = arrays, device

    def __len__(self) -> int:
        return len(self._arrays["features"])

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """Yield the fields, features in float32, and `index`; a seed picks one of the views."""
        for keys in batches:
            pairs = [key if isinstance(key, tuple) else (key, 0) for key in keys]
            index = np.array([i for i, _ in pairs])
            batch: Batch = {"index": torch.from_numpy(index)}
            for name, array in self._arrays.items():
                view = np.array([seed % array.shape[1] for _, seed in pairs])
                batch[name] = torch.from_numpy(array[index, view])
            batch = to_device(batch, self._device)
            yield batch | {"features": batch["features"].float()}


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch."""
    return {
        name: [part.to(device, non_blocking=True) for part in value]
        if isinstance(value, list)
        else value.to(device, non_blocking=True)
        for name, value in batch.items()
    }


class _Keys:
    """The batch sampler of a loader whose workers outlive an epoch."""

    batches: Iterable[Sequence[Key]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return map(list, self.batches)


class _ErrorsAsValues(Dataset[Any]):
    """Hands a user's mistake through the worker's pipe as it is, without the worker's traceback."""

    def __init__(self, samples: Dataset[dict[str, Any]]):
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)  # type: ignore[arg-type]

    def __getitem__(self, key: Key) -> dict[str, Any] | UserError:
        try:
            return self._samples[key]
        except UserError as error:
            return UserError(str(error))


def _collate(listed: tuple[str, ...], samples: list[Any]) -> Batch | UserError:
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    columns = {name: [sample[name] for sample in samples] for name in samples[0]}
    return {
        name: [part.as_subclass(Tensor) for part in column]
        if name in listed
        else default_collate(column)
        for name, column in columns.items()
    }
