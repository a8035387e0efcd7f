"""The one training loop, and the one evaluation."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cgeartheye.config import Training
from cgeartheye.training import checkpoint, distributed
from cgeartheye.training.loaders import Batch, Source
from cgeartheye.training.meter import Meter
from cgeartheye.training.optimizer import (
    adamw,
    decoder_factor,
    learning_rate,
    set_rates,
    total_steps,
)
from cgeartheye.training.run_dir import Run
from cgeartheye.training.samplers import TrainingOrder, derive_seed, test_order
from cgeartheye.utils.console import Bar, bar, log_info, warn
from cgeartheye.utils.errors import UserError


class Metrics(Protocol):
    """Figures that are the same for any number of processes, to the last bit."""

    def state(self) -> Any:
        """Return what was measured; it is sent to all processes, pickled."""

    def load_states(self, states: list[Any]) -> None:
        """Replace what was measured, by the states of all processes."""

    def compute(self) -> dict[str, float]:
        """Return the figures."""


class Task(Protocol):
    """Interface of a task as the loop sees it, which is an `nn.Module` besides."""

    monitor: str  # the figure whose highest value marks the best model

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return losses, means over the samples of the batch; their sum is minimised."""

    def predict(self, batch: Batch) -> Any:
        """Return predictions for a batch."""

    def metrics(self) -> Metrics:
        """Return new, empty metrics."""

    def measure(self, metrics: Any, prediction: Any, batch: Batch) -> None:
        """Add the predictions for a batch to the metrics.

        Args:
            metrics: made by `metrics`, changed in place.
            prediction: of `predict` for the batch.
            batch: with labels.
        """


@dataclass(frozen=True)
class Data:
    """Training and evaluation data, with the samples a process and batch."""

    train: Source
    train_batch: int
    val: Source
    val_batch: int


@dataclass
class Position:
    """Position of a training; see `checkpoint.Position`.

    Attributes:
        samples: in the training data.
        step_size: samples a step, over all processes.
        step: optimizer steps done.
        best: the best value of the monitored metric so far.
        stale: evaluations since the best one.
        scaler: state of the scaler of half-precision gradients.
    """

    samples: int
    step_size: int
    step: int = 0
    best: float | None = None
    stale: int = 0
    scaler: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Trains a task; the figures go to the run's log, the best model to `export`."""

    def __init__(
        self,
        task: Any,
        blocks: Iterable[nn.Module],
        data: Data,
        config: Training,
        run: Run,
        export: Callable[[nn.Module], None],
        resume: Path | None = None,
    ):
        """Get ready to train, from the start or from a checkpoint.

        Args:
            task: a `Task`, on its device.
            blocks: the backbone's blocks, the unit of sharding.
            data: sources of batches.
            config: optimizer, schedule, precision.
            run: where the log and the checkpoints go.
            export: called in every process with the model whenever it is the best so far.
            resume: a checkpoint.
        """
        self.task, self.data, self.config, self.run, self.export = task, data, config, run, export
        self.device = next(task.parameters()).device
        warn_slow_precision(self.device, config.precision)
        self.order = TrainingOrder(
            count=len(data.train),
            batch_size=data.train_batch,
            grad_accum_steps=config.grad_accum_steps,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            seed=config.seed,
        )
        self.model = distributed.wrap(task, blocks, config.sharding)
        self.optimizer = adamw(self.model, config, decoder_factor(config))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.state = checkpoint.State({"model": self.model}, self.optimizer, frozen=False)
        self.position = Position(self.order.count, self.order.step_size)
        if resume:
            self._resume(resume)
        run.forget_after(self.position.step)
        self.meter = Meter()
        self.saved = time.monotonic()

    def _resume(self, path: Path) -> None:
        found, own = checkpoint.read_position(path, Position), self.position
        if (found.samples, found.step_size) != (own.samples, own.step_size):
            raise UserError(
                f"{path} is of a training with {found.samples} images, {found.step_size} a step, "
                f"this one has {own.samples} and {own.step_size}: keep the data, and "
                f"data.batch_size * training.grad_accum_steps * processes at {found.step_size}"
            )
        checkpoint.load(path, self.state)
        if found.scaler:
            self.scaler.load_state_dict(found.scaler)
        self.position = found
        log_info(f"resuming from {path} at step {found.step}")

    def train(self) -> None:
        """Train to the end of the schedule, or until the early stop.

        Raises:
            UserError: the loss is not finite, a sample cannot be read, a file cannot be written.
        """
        config, order, position = self.config, self.order, self.position
        total = total_steps(order.steps, config)
        if position.step >= total:  # it was killed between its last step and the test
            return
        epochs = -(-total // order.steps)
        self._began, self._first_step = time.monotonic(), position.step
        with bar("training", total, "steps", done=position.step) as progress:
            for epoch in range(position.step // order.steps, epochs):
                if config.patience and position.stale >= config.patience:
                    log_info(
                        f"stopped early: no better {self.task.monitor} in {position.stale} times"
                    )
                    break
                self._epoch(epoch, min(order.steps, total - epoch * order.steps), progress)
                evaluates = (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == epochs
                figure = self._evaluate(epoch) if evaluates else None
                self._log_epoch(epoch + 1, epochs, figure, (total - position.step) / self._speed())
                self._save_if_due()
        self._save()

    def _log_epoch(
        self, epoch: int, epochs: int, figure: float | None, seconds_left: float
    ) -> None:
        """Print a line on an epoch."""
        losses, steps = zip(*self._losses, strict=True)
        parts = [f"epoch {epoch}/{epochs}", f"loss {np.average(losses, weights=steps):.4f}"]
        if figure is not None:
            monitor, best = self.task.monitor, self.position.best
            parts += [f"{monitor} {_shown(figure)}", f"best {_shown(best)}"]
        parts.append(f"{timedelta(seconds=round(seconds_left))} left")
        log_info("  ".join(parts))

    def _speed(self) -> float:
        """Return steps a second since the training began or went on, evaluations included."""
        done = self.position.step - self._first_step
        return max(done, 1) / (time.monotonic() - self._began)

    def _epoch(self, epoch: int, steps: int, progress: Bar) -> None:
        self._losses: list[tuple[float, int]] = []  # means, and over how many steps
        first = self.position.step - epoch * self.order.steps
        batches = self.data.train.load(self.order.epoch(epoch, first))
        self.model.train()
        self.meter.start()
        for step in range(first, steps):
            rate = self._step(batches, step)
            progress.advance(1, self.meter.text)
            last = step == steps - 1
            if last or self.position.step % self.config.log_every == 0:
                self._log(rate)
                # At the end of an epoch the evaluation belongs into the checkpoint.
                if not last:
                    self._save_if_due()

    def _step(self, batches: Iterator[Batch], step: int) -> float:
        """Do one optimizer step; return its learning rate."""
        config, order = self.config, self.order
        rate = learning_rate(self.position.step, order.steps, order.step_size, config)
        set_rates(self.optimizer, rate, config.weight_decay)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for micro in range(config.grad_accum_steps):
            batch = self.meter.wait(batches)
            # Every random draw follows from the step's number, so resuming needs no generator's
            # state. A loader that has just started draws too: this comes after it.
            step_seed = derive_seed(config.seed, self.position.step, micro, distributed.rank())
            torch.manual_seed(step_seed)
            with (
                distributed.sync_gradients(self.model, micro == config.grad_accum_steps - 1),
                autocast(self.device, config.precision),
            ):
                losses = self.model(batch)
                loss = torch.stack(list(losses.values())).sum() * order.weight(step, micro)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.meter.add({"loss": total}, order.samples(step))
        if config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.position.step += 1
        return rate

    def _log(self, rate: float) -> None:
        steps = self.meter.steps
        figures = self.meter.read()
        self._losses.append((figures["loss"], steps))
        step = self.position.step
        epoch = step / self.order.steps
        self.run.log({"kind": "train", "step": step, "epoch": epoch, "lr": rate, **figures})
        if not math.isfinite(figures["loss"]):
            raise UserError(
                f"the loss became {figures['loss']} by step {step}: lower training.lr, set "
                "training.clip_norm=1.0 or training.precision=fp32, and check the images; the "
                f"last good checkpoint is kept in {self.run.checkpoints}"
            )

    def _evaluate(self, epoch: int) -> float:
        position, monitor = self.position, self.task.monitor
        # Running statistics of batch norms may differ between processes.
        distributed.share_buffers(self.task)
        with distributed.unsharded(self.task):
            metrics = evaluate(self.task, self.data.val, self.data.val_batch, self.config.precision)
        figures = metrics.compute()
        self.run.log({"kind": "val", "step": position.step, "epoch": epoch + 1, **figures})
        figure: float = figures[monitor]
        if _is_better(figure, position.best):
            position.best, position.stale = figure, 0
            self.export(self.model)
        else:
            position.stale += 1
        return figure

    def _save_if_due(self) -> None:
        due = time.monotonic() - self.saved >= 60 * self.config.checkpoint_minutes
        # The clock of the first process decides for all.
        if distributed.gather(due)[0]:
            self._save()

    def _save(self) -> None:
        self.position.scaler = self.scaler.state_dict()
        checkpoint.save(self.run.checkpoints, self.state, self.position, kept=1)
        self.saved = time.monotonic()


def _shown(figure: float | None) -> str:
    return "–" if figure is None or math.isnan(figure) else f"{figure:.2f}"


def _is_better(figure: float, best: float | None) -> bool:
    """Return whether a figure is better than the best so far.

    Either may be NaN, where it is not defined: as long as there is none, the newest is the best.
    """
    return best is None or math.isnan(best) or figure > best


@torch.no_grad()
def evaluate(
    task: Any,
    source: Source,
    batch_size: int,
    precision: str,
    keep: Callable[[Any, Batch], None] | None = None,
) -> Any:
    """Return the metrics of a task over a whole data set, the same for any number of processes.

    Args:
        task: a `Task`.
        source: the data set.
        batch_size: samples a process and batch.
        precision: fp32, bf16 or fp16.
        keep: called with the predictions for each batch and the batch.
    """
    task.eval()
    device = next(task.parameters()).device
    order = test_order(len(source), batch_size, distributed.rank(), distributed.world_size())
    metrics = task.metrics()
    with bar("evaluating", len(order), "batches") as progress:
        for batch in source.load(order):
            with autocast(device, precision):
                prediction = task.predict(batch)
            task.measure(metrics, prediction, batch)
            if keep:
                keep(prediction, batch)
            progress.advance()
    metrics.load_states(distributed.gather(metrics.state()))
    return metrics


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision: matrix products in `bf16` or `fp16`, the rest in float32."""
    if precision == "fp32":
        return nullcontext()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype)


def warn_slow_precision(device: torch.device, precision: str) -> None:
    """Warn of bfloat16 on a processor that has to imitate it, which takes several times as long."""
    if precision == "bf16" and device.type == "cpu" and not _has_bf16():
        warn(
            "this processor has no bfloat16 and would imitate it: training.precision=fp32 is faster"
        )


def _has_bf16() -> bool:
    """Return whether the processor computes in bfloat16; true where this cannot be determined."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", True))
