"""Which sample goes where: the order of training and test samples, the same for any number of
processes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch


def derive_seed(*parts: int | str) -> int:
    """Return a seed in 0..2^63-1 that depends on all `parts` and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class TrainingOrder:
    """The micro-batches of one process.

    A step takes `batch_size * grad_accum_steps * world_size` samples of a seeded permutation of the
    epoch, whoever computes them, so a step sees the same samples for any number of processes that
    divides them. The last step of an epoch takes what is left.

    Attributes:
        count: samples in the data set.
        batch_size: samples a process and micro-batch.
        grad_accum_steps: micro-batches a step.
        rank: this process.
        world_size: number of processes.
        seed: of the permutations and augmentations.
    """

    count: int
    batch_size: int
    grad_accum_steps: int
    rank: int
    world_size: int
    seed: int

    @property
    def step_size(self) -> int:
        """Samples a full step takes on all processes together."""
        return self.batch_size * self.grad_accum_steps * self.world_size

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return -(-self.count // self.step_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yield `grad_accum_steps` micro-batches a step: lists of (sample, augmentation seed)."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        order = torch.randperm(self.count, generator=generator).tolist()
        for step in range(first_step, self.steps):
            samples = order[step * self.step_size :][: self.step_size]
            for micro in range(self.grad_accum_steps):
                first, end = self._share(len(samples), micro)
                # A process that is left without a sample computes one that weighs nothing.
                share = samples[first:end] or samples[:1]
                yield [(i, derive_seed(self.seed, "augment", epoch, i)) for i in share]

    def weight(self, step: int, micro: int) -> float:
        """Factor of a micro-batch's mean loss.

        With it, the average over processes of the sum over micro-batches is the mean over the
        samples of the step.
        """
        total = self.samples(step)
        first, end = self._share(total, micro)
        return (end - first) * self.world_size / total

    def samples(self, step: int) -> int:
        """Samples that a step of an epoch takes on all processes together."""
        return min(self.step_size, self.count - step * self.step_size)

    def _share(self, total: int, micro: int) -> tuple[int, int]:
        parts = self.grad_accum_steps * self.world_size
        part = micro * self.world_size + self.rank
        return part * total // parts, (part + 1) * total // parts


def test_order(count: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """Return the batches of one process: every sample once over all processes, none padded.

    A batch holds the same samples whatever the number of processes, so that its predictions are
    the same to the last bit.

    Args:
        count: samples.
        batch_size: of each process.
        rank: of this process.
        world_size: number of processes.
    """
    starts = range(rank * batch_size, count, world_size * batch_size)
    return [list(range(start, min(start + batch_size, count))) for start in starts]
