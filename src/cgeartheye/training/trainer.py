"""The one training loop, and the one evaluation."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cgeartheye.config import Training
from cgeartheye.training import checkpoint, distributed
from cgeartheye.training.loaders import Batch, Source
from cgeartheye.training.meter import Meter
from cgeartheye.training.optimizer import adamw, learning_rate, total_steps
from cgeartheye.training.run_dir import Run
from cgeartheye.training.samplers import TrainingOrder, derive_seed, test_order
from cgeartheye.utils.console import Bar, bar, log_info
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
    """What the loop knows of a task, which is an `nn.Module` besides."""

    monitor: str  # the figure whose highest value marks the best model

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return losses, means over the samples of the batch; their sum is minimised."""

    def predict(self, batch: Batch) -> Any:
        """Return predictions for a batch."""

    def metrics(self) -> Metrics:
        """Return new, empty metrics."""

    def measure(self, metrics: Any, prediction: Any, batch: Batch) -> None:
        """Add the predictions for a batch to the metrics."""


@dataclass(frozen=True)
class Data:
    """What is trained on and what is evaluated on, with the samples a process and batch."""

    train: Source
    train_batch: int
    val: Source
    val_batch: int


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
            config: optimiser, schedule, precision.
            run: where the log and the checkpoints go.
            export: called in every process with the model whenever it is the best so far.
            resume: a checkpoint.
        """
        self.task, self.data, self.config, self.run, self.export = task, data, config, run, export
        self.device = next(task.parameters()).device
        self.order = TrainingOrder(
            count=len(data.train),
            batch_size=data.train_batch,
            grad_accum_steps=config.grad_accum_steps,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            seed=config.seed,
        )
        self.model = distributed.wrap(task, blocks, config.sharding)
        self.optimizer = adamw(self.model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.position = checkpoint.Position(self.order.count, self.order.step_size)
        if resume:
            self.position = checkpoint.load(
                resume, self.model, self.optimizer, self.scaler, self.position
            )
            log_info(f"resuming from {resume} at step {self.position.step}")
        run.forget_after(self.position.step)
        self.meter = Meter()
        self.saved = time.monotonic()

    def train(self) -> None:
        """Train to the end of the schedule, or until the early stop.

        Raises:
            UserError: the loss is not finite, a sample cannot be read, a file cannot be written.
        """
        config, order, position = self.config, self.order, self.position
        total = total_steps(order.steps, config)
        epochs = -(-total // order.steps)
        with bar("training", total, "steps", done=position.step) as progress:
            for epoch in range(position.step // order.steps, epochs):
                if config.patience and position.stale >= config.patience:
                    log_info(
                        f"stopped early: no better {self.task.monitor} in {position.stale} times"
                    )
                    break
                self._epoch(epoch, min(order.steps, total - epoch * order.steps), progress)
                if (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == epochs:
                    self._evaluate(epoch)
                self._save_if_due()
        self._save()

    def _epoch(self, epoch: int, steps: int, progress: Bar) -> None:
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
        """Do one optimiser step; return its learning rate."""
        config, order = self.config, self.order
        rate = learning_rate(self.position.step, order.steps, order.step_size, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
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
        figures = self.meter.read()
        step = self.position.step
        epoch = step / self.order.steps
        self.run.log({"kind": "train", "step": step, "epoch": epoch, "lr": rate, **figures})
        if not math.isfinite(figures["loss"]):
            raise UserError(
                f"the loss became {figures['loss']} by step {step}: lower training.lr, set "
                "training.clip_norm=1.0 or training.precision=fp32, and check the images; the "
                f"last good checkpoint is kept in {self.run.last.parent}"
            )

    def _evaluate(self, epoch: int) -> None:
        position, monitor = self.position, self.task.monitor
        # Running statistics of batch norms may differ between processes.
        distributed.share_buffers(self.task)
        with distributed.unsharded(self.task):
            metrics = evaluate(self.task, self.data.val, self.data.val_batch, self.config.precision)
        figures = metrics.compute()
        self.run.log({"kind": "val", "step": position.step, "epoch": epoch + 1, **figures})
        if position.best is None or figures[monitor] > position.best:
            position.best, position.stale = figures[monitor], 0
            self.export(self.model)
        else:
            position.stale += 1

    def _save_if_due(self) -> None:
        due = time.monotonic() - self.saved >= 60 * self.config.checkpoint_minutes
        # The clock of the first process decides for all.
        if distributed.gather(due)[0]:
            self._save()

    def _save(self) -> None:
        checkpoint.save(self.run.last, self.model, self.optimizer, self.scaler, self.position)
        self.saved = time.monotonic()


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
