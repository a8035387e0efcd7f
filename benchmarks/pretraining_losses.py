"""Difference of our heads and losses of pre-training from lightly's, and the time of each.

Both get the same random logits, features and weights in float32. Shown are the largest difference
of values (losses, logits, targets) and of gradients and centres, relative to the largest value, of
ours from lightly in float64, whose limit is 1e-5; then how far lightly in float32 is from itself in
float64. Times are medians of forward and backward in float32, alternating.

    pip install lightly  # 1.6 or later; it brings pytorch-lightning
    python benchmarks/pretraining_losses.py [--batch 64] [--prototypes 65536]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.loss.msn_loss import sinkhorn
from lightly.models.modules import DINOProjectionHead
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cgeartheye.pretraining.heads import ProjectionHead
from cgeartheye.pretraining.losses import Center, dino_loss, ibot_loss, koleo_loss, sinkhorn_knopp

LIMIT = 1e-5
STUDENT, TEACHER, MOMENTUM = 0.1, 0.07, 0.9
VIEWS, SIDE, WIDTH = 8, 7, 384
REPEATS = 7
# Returns what is compared: a value first, then gradients or states.
Computation = Callable[[], list[Tensor]]
Peer = Callable[[torch.dtype], Computation]


def main() -> int:
    """Print the table; return 1 if a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=64, help="images; 8 views of each [64]")
    parser.add_argument("--prototypes", type=int, default=65536)
    given = parser.parse_args()
    table = Table("", "value", "gradient", "lightly's own", "ours ms", "lightly ms", "speed-up")
    worst = 0.0
    for name, ours, peer in comparisons(given.batch, given.prototypes):
        theirs, exact = peer(torch.float32), peer(torch.float64)
        for _ in range(2):  # the first finds a centre of 0, the second one that has moved
            results = [computation() for computation in (ours, theirs, exact)]
        mine, own = (differences(result, results[2]) for result in results[:2])
        seconds = alternate(ours, theirs)
        table.add_row(
            name,
            f"{mine[0]:.1e}",
            f"{max(mine[1:]):.1e}" if mine[1:] else "",
            f"{max(own):.1e}",
            *(f"{1000 * s:.0f}" for s in seconds),
            f"{seconds[1] / seconds[0]:.1f}x",
        )
        worst = max(worst, *mine)
    Console().print(table, f"largest {worst:.1e}, limit {LIMIT:.0e}")
    return int(worst > LIMIT)


def differences(results: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Return the largest difference of each, relative to the largest value."""
    pairs = zip(results, exact, strict=True)
    return [((a - b).abs().max() / b.abs().max()).item() for a, b in pairs]


def comparisons(batch: int, prototypes: int) -> Iterator[tuple[str, Computation, Peer]]:
    """Yield what is compared: its name, ours, lightly's."""
    torch.manual_seed(0)
    yield "head", *heads(VIEWS * batch, prototypes)
    teacher = 0.1 * torch.randn(2 * batch, prototypes)
    student = (0.1 * torch.randn(VIEWS * batch, prototypes)).requires_grad_()
    yield "DINO", *dino(teacher, student)
    # A third of the patches, in every second global crop.
    mask = torch.rand(2 * batch, SIDE, SIDE) < 0.3
    mask[::2] = False
    patches = int(mask.sum())
    teacher = 0.1 * torch.randn(patches, prototypes)
    student = (0.1 * torch.randn(patches, prototypes)).requires_grad_()
    yield f"iBOT, {patches} patches", *ibot(teacher, student, mask)
    yield (
        "Sinkhorn-Knopp",
        lambda: [sinkhorn_knopp(teacher, TEACHER)],
        lambda dtype: lambda: [sinkhorn(torch.exp(teacher.to(dtype) / TEACHER))],
    )
    yield "KoLeo", *koleo(torch.randn(2, batch, WIDTH, requires_grad=True))


def heads(tokens: int, prototypes: int) -> tuple[Computation, Peer]:
    """Compare the logits and the gradients of the tokens and of the last layer."""
    ours = ProjectionHead(WIDTH, 2048, 256, prototypes)
    x = torch.randn(tokens, WIDTH, requires_grad=True)
    upstream = torch.randn(tokens, prototypes)

    def run(head: torch.nn.Module, last: Tensor) -> list[Tensor]:
        logits = head(x.to(last.dtype))
        return [logits.detach(), *torch.autograd.grad(logits, [x, last], upstream.to(last.dtype))]

    def peer(dtype: torch.dtype) -> Computation:
        theirs = DINOProjectionHead(WIDTH, 2048, 256, prototypes)
        theirs.layers.load_state_dict(ours.mlp.state_dict())
        theirs.last_layer.weight_v.data.copy_(ours.prototypes.weight.data)
        theirs.to(dtype)
        return lambda: run(theirs, theirs.last_layer.weight_v)

    return lambda: run(ours, ours.prototypes.weight), peer


def dino(teacher: Tensor, student: Tensor) -> tuple[Computation, Peer]:
    """Compare loss, gradient and centre."""
    centre = Center(teacher.shape[1], MOMENTUM)

    def ours() -> list[Tensor]:
        loss = dino_loss(student, centre(teacher, TEACHER), STUDENT)
        return [loss.detach(), *torch.autograd.grad(loss, student), centre.centre.clone()]

    def peer(dtype: torch.dtype) -> Computation:
        loss = DINOLoss(teacher.shape[1], student_temp=STUDENT, center_momentum=MOMENTUM).to(dtype)
        seen = teacher.to(dtype).chunk(2)

        def theirs() -> list[Tensor]:
            value = loss(seen, student.to(dtype).chunk(VIEWS), teacher_temp=TEACHER)
            (gradient,) = torch.autograd.grad(value, student)
            return [value.detach(), gradient, loss.center.flatten().clone()]

        return theirs

    return ours, peer


def ibot(teacher: Tensor, student: Tensor, mask: Tensor) -> tuple[Computation, Peer]:
    """Compare loss, gradient and centre."""
    centre = Center(teacher.shape[1], MOMENTUM)
    # lightly divides by all images of the mask, we by those with a masked patch, as DINOv2 does.
    masked = mask[mask.flatten(1).any(1)]

    def ours() -> list[Tensor]:
        loss = ibot_loss(student, centre(teacher, TEACHER), mask, STUDENT)
        return [loss.detach(), *torch.autograd.grad(loss, student), centre.centre.clone()]

    def peer(dtype: torch.dtype) -> Computation:
        loss = IBOTPatchLoss(teacher.shape[1], TEACHER, STUDENT, center_momentum=MOMENTUM).to(dtype)
        seen = teacher.to(dtype)

        def theirs() -> list[Tensor]:
            value = loss(seen, student.to(dtype), masked)
            (gradient,) = torch.autograd.grad(value, student)
            return [value.detach(), gradient, loss.center.value.flatten().clone()]

        return theirs

    return ours, peer


def koleo(features: Tensor) -> tuple[Computation, Peer]:
    """Compare loss and gradient, summed over two views."""
    loss = KoLeoLoss()

    def both(value: Tensor) -> list[Tensor]:
        return [value.detach(), *torch.autograd.grad(value, features)]

    def peer(dtype: torch.dtype) -> Computation:
        return lambda: both(sum(loss(view) for view in features.to(dtype)))

    return lambda: both(koleo_loss(features)), peer


def alternate(*computations: Computation) -> list[float]:
    """Return the median seconds of each."""
    seconds: list[list[float]] = [[] for _ in computations]
    for _ in range(REPEATS):
        for computation, taken in zip(computations, seconds, strict=True):
            begin = time.perf_counter()
            computation()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in seconds]


if __name__ == "__main__":
    sys.exit(main())
