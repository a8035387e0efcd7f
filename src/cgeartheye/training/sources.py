"""Where batches come from: image files, or features that were encoded before."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from cgeartheye.errors import UserError

Batch = dict[str, Tensor]
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

    def __init__(self, samples: Dataset[dict[str, Any]], workers: int, device: torch.device):
        self._samples = _ErrorsAsValues(samples)
        self._keys = _Keys()
        self._device = device
        self._loader: DataLoader[Any] = DataLoader(
            self._samples,
            batch_sampler=self._keys,
            num_workers=workers,
            collate_fn=_collate,
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
    """Reads features that were encoded before (see `features.py`)."""

    def __init__(self, features: np.ndarray, labels: list[int], device: torch.device):
        """Take features `[samples, views, C]` float16 and their labels."""
        self._features, self._device = features, device
        self._labels = torch.tensor(labels)

    def __len__(self) -> int:
        return len(self._features)

    def load(self, batches: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """Yield `features` float32 `[B, C]`, `label` and `index`; a seed picks one of the views."""
        views = self._features.shape[1]
        for keys in batches:
            pairs = [key if isinstance(key, tuple) else (key, 0) for key in keys]
            index = np.array([i for i, _ in pairs])
            view = np.array([seed % views for _, seed in pairs])
            batch = {
                "features": torch.from_numpy(self._features[index, view]).float(),
                "label": self._labels[index],
                "index": torch.from_numpy(index),
            }
            yield to_device(batch, self._device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


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


def _collate(samples: list[Any]) -> Any:
    errors = [sample for sample in samples if isinstance(sample, UserError)]
    return errors[0] if errors else default_collate(samples)
