"""Losses that compare teacher and student.

DINO (Caron et al. 2021) compares class tokens of different views, iBOT (Zhou et al. 2022) masked
patches, both by the cross-entropy between the teacher's targets and the student's logits; KoLeo
(Sablayrolles et al. 2019) keeps features apart.

Every process returns a loss of its share of the batch, so made that the mean over processes, which
is what data-parallel training takes of gradients, is the loss of the whole batch. All is computed
in float32, whatever the autocast.

Logits of 65,536 prototypes fill hundreds of megabytes, and moving them costs more than the
arithmetic: they are worked on by a few rows at a time, which stay in the cache of a CPU.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cgeartheye.training.distributed import all_sum, rank, world_size

SINKHORN_ITERATIONS = 3
KOLEO_EPSILON = 1e-8


class Center(nn.Module):
    """Makes targets by a softmax of the teacher's logits, less a running mean of them.

    The mean takes from every prototype what it has for all images, and so keeps the teacher from
    giving the same answer to all (Caron et al. 2021, section 3.1).

    Attributes:
        centre: float32 `[K]`, the running mean, the same on all processes.
        momentum: share of it that stays at each step.
    """

    centre: Tensor

    def __init__(self, prototypes: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Return targets; then, in training, move the centre towards the mean of these logits.

        Args:
            logits: the teacher's, `[R, K]`; R may differ from process to process.
            temperature: of the softmax; lower is sharper.

        Returns:
            Float32 `[R, K]`; each row sums to 1.
        """
        targets = torch.empty_like(logits, dtype=torch.float32)
        total = torch.zeros_like(self.centre)
        for rows in _few_rows(logits):
            x = logits[rows].float()
            total += x.sum(0)
            targets[rows] = torch.softmax((x - self.centre).div_(temperature), dim=-1)
        if self.training:
            self._update(total, len(logits))
        return targets

    def _update(self, total: Tensor, rows: int) -> None:
        summed = all_sum(torch.cat([total, total.new_tensor([rows])]))
        moved = torch.lerp(summed[:-1] / summed[-1], self.centre, self.momentum)
        # No row, or a row that is not finite, leaves it as it is.
        self.centre.copy_(torch.where(moved.isfinite().all(), moved, self.centre))


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float) -> Tensor:
    """Make targets that use all prototypes alike, over the rows of all processes.

    `exp(logits / temperature)` is scaled by columns and by rows in turn, so that each column, and
    then each row, has the same sum (Cuturi 2013; Caron et al. 2020, SwAV).

    Args:
        logits: the teacher's, `[R, K]`; R may differ from process to process.
        temperature: lower is sharper.

    Returns:
        Float32 `[R, K]`; each row sums to 1, each column almost to (rows of all processes) / K.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scaled = logits.float() / temperature
        highest = scaled.amax(dim=-1)
        exponentials = scaled.sub_(highest[:, None]).exp_()
        tiny = torch.finfo(torch.float32).tiny
        # Only the scales change: the matrix is read by two products an iteration, never rewritten.
        of_rows = torch.exp(highest - _highest_of_all(highest))
        for _ in range(SINKHORN_ITERATIONS):
            of_columns = 1 / all_sum(of_rows @ exponentials).clamp_min(tiny)
            of_rows = 1 / (exponentials @ of_columns)
        return exponentials.mul_(of_columns).mul_(of_rows[:, None])


def dino_loss(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Compare class tokens of different views.

    Each of the student's views is compared with the two targets of the same sample, but a global
    view not with the target of itself. All these pairs of views weigh the same: with V views,
    each has the weight 1 / (2 V - 2).

    Args:
        student: logits `[V * B, K]`, view by view, the 2 global views first.
        targets: of the global views, `[2 * B, K]`, in the same order.
        temperature: the student's.

    Returns:
        The mean over pairs and samples.
    """
    samples, views = len(targets) // 2, 2 * len(student) // len(targets)
    first, second = targets.chunk(2)
    # The log-probabilities of other views are needed once: they meet both targets as a sum.
    targets = torch.cat([second, first, first + second])
    partners = torch.arange(len(student), device=student.device)
    partners = torch.where(partners < 2 * samples, partners, 2 * samples + partners % samples)
    weights = targets.new_full((len(student),), 1 / ((2 * views - 2) * samples))
    return _cross_entropy(student, targets, partners, weights, temperature)


def ibot_loss(student: Tensor, targets: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Compare masked patches, which the teacher sees and the student does not.

    Args:
        student: logits of the masked patches, `[P, K]`, as `patches[mask]` gives them.
        targets: `[P, K]`.
        mask: bool `[N, ...]`, true at the P masked patches of N images.
        temperature: the student's.

    Returns:
        The mean over masked images of the mean over their masked patches; 0 if there are none.
    """
    mask = mask.flatten(1)
    patches = mask.sum(1)
    images = all_sum((patches > 0).sum()).clamp_min(1) / world_size()
    weights = (1 / (patches * images))[:, None].expand_as(mask)[mask]
    partners = torch.arange(len(student), device=student.device)
    return _cross_entropy(student, targets, partners, weights, temperature)


def koleo_loss(features: Tensor) -> Tensor:
    """Keep features apart: the negative logarithm of the distance to the nearest other one.

    The features of all processes are looked at, and all receive gradients.

    Args:
        features: `[B, C]` or, for several views, `[V, B, C]`, where neighbours are sought within
            each view, since two views of an image belong together; B the same on all processes.

    Returns:
        The mean over samples, summed over views as in DINOv2 (Oquab et al. 2023).
    """
    with torch.autocast(features.device.type, enabled=False):
        own = F.normalize(features.float(), dim=-1).reshape(-1, *features.shape[-2:])
        batch = own.shape[1]
        everyone = _Gather.apply(own).transpose(0, 1).flatten(1, 2)  # [V, processes * B, C]
        with torch.no_grad():
            cosines = own @ everyone.mT
            cosines.diagonal(rank() * batch, dim1=1, dim2=2).fill_(-torch.inf)
            nearest = cosines.argmax(dim=-1, keepdim=True)
        neighbors = everyone.gather(1, nearest.expand_as(own))
        distances = torch.linalg.vector_norm(own - neighbors, dim=-1)
        loss: Tensor = -(distances + KOLEO_EPSILON).log().mean(1).sum()
        return loss


@torch.no_grad()
def target_entropies(targets: Tensor) -> tuple[float, float]:
    """Detect a teacher that collapses.

    Args:
        targets: `[R, K]`, each row with the sum 1.

    Returns:
        The mean entropy of the targets and the entropy of their mean, over all processes, as
        shares of ln K. Both at 1: the same for every prototype; both at 0: always one prototype;
        healthy is a low first and a high second.
    """
    entropy = targets.new_zeros(())
    for rows in _few_rows(targets):
        entropy += torch.special.entr(targets[rows]).sum()
    counted = targets.new_tensor([len(targets)])
    summed = all_sum(torch.cat([targets.sum(0), entropy[None], counted]))
    mean, single = (summed[:-1] / summed[-1]).split([targets.shape[1], 1])
    highest = math.log(len(mean))
    return float(single) / highest, float(torch.special.entr(mean).sum()) / highest


@torch.no_grad()
def effective_rank(features: Tensor) -> float:
    """Return how many dimensions the features of all processes fill.

    It is the exponential of the entropy of the singular values of the centred features (Roy and
    Vetterli 2007): from 1, all on a line, to C; 1 as well where all are the same. NaN where a
    feature is not finite.

    Args:
        features: `[B, C]`, B the same on all processes.
    """
    everyone = _Gather.apply(features.float()).flatten(0, 1)
    if not everyone.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(everyone - everyone.mean(0))
    # What is left of equal features by rounding has every direction.
    rounding = torch.finfo(features.dtype).eps * everyone.norm()
    shares = F.normalize(torch.where(values > rounding, values, 0), p=1, dim=0)
    return float(torch.special.entr(shares).sum().exp())


class _CrossEntropy(torch.autograd.Function):
    """The gradient is made together with the loss, while its rows are in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        targets: Tensor,
        partners: Tensor,
        weights: Tensor,
        temperature: float,
    ) -> Tensor:
        loss = targets.new_zeros(())
        gradient = torch.empty_like(student)
        for rows in _few_rows(student):
            target, weight = targets[partners[rows]], weights[rows, None]
            x = student[rows].float() / temperature
            x -= x.amax(dim=-1, keepdim=True)
            product = torch.linalg.vecdot(target, x)[:, None]
            total, mass = x.exp_().sum(-1, keepdim=True), target.sum(-1, keepdim=True)
            loss += (weight * (mass * total.log() - product)).sum()
            # What the softmax has, less what it should have.
            x *= weight * mass / (total * temperature)
            torch.addcmul(x, target, weight / temperature, value=-1, out=gradient[rows])
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        # In place: a second backward pass through the same graph is refused by autograd.
        return gradient.mul_(scale), None, None, None, None


def _cross_entropy(
    student: Tensor, targets: Tensor, partners: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Return the weighted sum of cross-entropies.

    Args:
        student: logits `[R, K]`.
        targets: `[T, K]`, not negative; rows may have any sum.
        partners: `[R]`, which target each row of `student` is compared with.
        weights: `[R]`.
        temperature: the student's.
    """
    with torch.autocast(student.device.type, enabled=False):
        loss: Tensor = _CrossEntropy.apply(student, targets, partners, weights, temperature)
    return loss


class _Gather(torch.autograd.Function):
    """The same tensor of all processes, `[processes, ...]`, with gradients to all of them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        everyone = [torch.empty_like(own) for _ in range(world_size())]
        if world_size() > 1:
            dist.all_gather(everyone, own.contiguous())
        else:
            everyone = [own]
        return torch.stack(everyone)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_sum(gradient.clone(memory_format=torch.contiguous_format))[rank()]


def _highest_of_all(values: Tensor) -> Tensor:
    """Return the highest value of all processes; some may have none."""
    highest = torch.cat([values, values.new_tensor([-torch.inf])]).max()
    if dist.is_initialized():
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    return highest


def _few_rows(matrix: Tensor) -> Iterator[slice]:
    """Yield the rows in parts of 8 MiB on a CPU, 256 MiB elsewhere."""
    # Smaller parts are no faster, and many parallel operations wait long for threads that share
    # their cores with the loader's processes.
    values = 2**21 if matrix.is_cpu else 2**26
    step = max(1, values // matrix.shape[1])
    return (slice(first, first + step) for first in range(0, len(matrix), step))
