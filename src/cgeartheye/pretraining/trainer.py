"""Pre-training, from the store to the weights."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cgeartheye.config import Backbone, Pretraining
from cgeartheye.models import backbone
from cgeartheye.models.backbone import SIZES, BackboneBundle, VisionTransformer, WeightsMetadata
from cgeartheye.models.backbone.checkpoint_io import check_fit, save_tensors
from cgeartheye.models.backbone.vit import resample_positions
from cgeartheye.pretraining.distillation import Distillation
from cgeartheye.pretraining.loader import Loader, ViewBatch
from cgeartheye.pretraining.losses import effective_rank, target_entropies
from cgeartheye.pretraining.model import SSLNetwork, drop_grads, update_ema
from cgeartheye.pretraining.monitor import FEW_SAMPLES, PATIENCE, KnnMonitor, collapse
from cgeartheye.pretraining.objective import Losses
from cgeartheye.pretraining.report import write_report
from cgeartheye.pretraining.schedule import Schedule, lr_factors
from cgeartheye.pretraining.store.reader import Store
from cgeartheye.pretraining.teacher import FrozenTeacher
from cgeartheye.training import checkpoint, distributed
from cgeartheye.training.checkpoint import all_tensors
from cgeartheye.training.meter import Meter
from cgeartheye.training.optimizer import adamw, set_rates
from cgeartheye.training.run_dir import Run
from cgeartheye.training.samplers import derive_seed
from cgeartheye.training.trainer import autocast, warn_slow_precision
from cgeartheye.utils.console import Bar, bar, log_info, warn
from cgeartheye.utils.errors import UserError

SKIPPED = 5  # steps in a row whose loss is not finite
KEPT = 2  # checkpoints
BACKBONE = "model.safetensors"  # the teacher's, in each checkpoint and in the run directory


@dataclass
class Position:
    """Position of a pre-training; see `checkpoint.Position`.

    Attributes:
        store: fingerprint of the images.
        batch: samples a step, over all processes.
        step: steps done.
        skipped: steps in a row whose loss was not finite.
        collapsed: readings in a row that showed a collapse.
    """

    store: str
    batch: int
    step: int = 0
    skipped: int = 0
    collapsed: int = 0


def pretrain(config: Pretraining, resume: bool = False, resume_from: Path | None = None) -> None:
    """Learn a backbone; see `Pretrainer` for what may go wrong.

    Args:
        config: the run.
        resume: go on with the run directory's last checkpoint, if there is one.
        resume_from: go on with this one instead.
    """
    resume = resume or resume_from is not None
    with distributed.process_group(config.training.device) as device, Run(config, resume) as run:
        trainer = Pretrainer(config, Store(config.data.store), run, device)
        found = resume_from or (checkpoint.latest(run.checkpoints) if resume else None)
        if found:
            trainer.resume(found)
        trainer.train()
        if distributed.is_main():
            report(config, trainer)


def report(config: Pretraining, trainer: "Pretrainer") -> None:
    """Write `report.html`, with the teacher as the last checkpoint hands it on."""
    last = checkpoint.latest(trainer.run.checkpoints)
    assert last is not None
    before, _ = build_branch(config)
    trained = config.backbone.model_copy(update={"weights": last / BACKBONE})
    after, _ = build_branch(config.model_copy(update={"backbone": trained}))
    steps = config.training.steps
    path = write_report(
        trainer.run.folder,
        config,
        trainer.store,
        next(trainer.loader.batches(steps - 1, steps)),
        trainer.normalization,
        before.backbone.to(trainer.device),
        after.backbone.to(trainer.device),
    )
    log_info(f"backbone: {trainer.run.folder / BACKBONE}")
    log_info(f"report: {path}")


class Pretrainer:
    """Student, teacher, and the loop that moves them."""

    def __init__(self, config: Pretraining, store: Store, run: Run, device: torch.device):
        """Build everything, on the device and over all processes.

        Args:
            config: the run.
            store: the images.
            run: where the log and the checkpoints go.
            device: of this process.

        Raises:
            UserError: weights, sizes or images that do not fit.
        """
        self.config, self.store, self.run, self.device = config, store, run, device
        self.global_batch = config.data.batch_size * distributed.world_size()
        self.schedule = Schedule(config.objective, config.training, self.global_batch)
        distillation = self._distillation()
        self.losses = Losses(config.objective, config.heads.prototypes, distillation).to(device)
        widths = distillation.widths if distillation else (0, 0)
        student, built = build_branch(config, widths)
        for note in built.notes:
            log_info(f"backbone: {note}")
        teacher, _ = build_branch(config, widths)
        teacher.load_state_dict(student.state_dict())
        if config.start_from:
            continue_from(config.start_from, student, teacher, self.losses)
            log_info(f"student, teacher and heads from {config.start_from}")
        self.normalization = built.normalization
        self.loader = Loader(
            store,
            config,
            built.normalization,
            device,
            distributed.rank(),
            distributed.world_size(),
        )
        self.facts = WeightsMetadata(
            mean=built.normalization.mean,
            std=built.normalization.std,
            gsd=built.gsd,
            image_size=config.views.global_size,
        )
        warn_slow_precision(device, config.training.precision)
        self.student = student.to(device).train()
        self.teacher = teacher.to(device).requires_grad_(False).train()
        self.teacher.backbone.drop_path = 0.0
        self.model = distributed.wrap(
            self.student, self.student.backbone.blocks, config.training.sharding, "features"
        )
        if distributed.is_sharded(self.model):
            distributed.shard(self.teacher, self.teacher.backbone.blocks, "features")
        factors = lr_factors(student.backbone.depth, config.training)
        self.optimizer = adamw(self.student, config.training, factors, fused=True)
        modules = {"student": self.model, "teacher": self.teacher, "losses": self.losses}
        self.state = checkpoint.State(modules, self.optimizer, frozen=True)
        self.position = Position(store.fingerprint, self.global_batch)
        self.online_knn = (
            KnnMonitor(
                config.online_knn.data, built.normalization, config.training.precision, device
            )
            if config.online_knn
            else None
        )
        self.meter = Meter()
        self.seen = ""

    def _distillation(self) -> Distillation | None:
        """Let a frozen teacher see the images, if there is one."""
        settings, data = self.config.teacher, self.config.data
        if settings is None:
            return None
        precision = self.config.training.precision
        teacher = FrozenTeacher(settings, self.store, precision, data.workers, self.device)
        own, size = SIZES.get(self.config.backbone.name), teacher.backbone.embed_dim
        if own is not None and own.width > size:
            warn(
                f"the student is wider ({own.width} channels) than its teacher ({size}), which "
                "limits it: use a larger teacher or a smaller student"
            )
        if settings.view == "image":
            teacher.see_images(self.store.fingerprint, self.run.folder.parent / "features")
        return Distillation(settings, teacher)

    def resume(self, path: Path) -> None:
        """Go on with a checkpoint.

        Raises:
            UserError: no checkpoint, or one of another model, other images or another batch.
        """
        found, own = checkpoint.read_position(path, Position), self.position
        if (found.store, found.batch) != (own.store, own.batch):
            raise UserError(
                f"{path} is of a training on other images or with another batch ({found.batch} "
                f"samples a step, here {own.batch}): keep the store, and data.batch_size * "
                f"processes at {found.batch}"
            )
        checkpoint.load(path, self.state)
        self.position = found
        log_info(f"resuming from {path} at step {found.step}")

    def train(self) -> None:
        """Train to the end of the schedule.

        Raises:
            UserError: a collapse, losses that are not finite, an image that cannot be read, a file
                that cannot be written.
        """
        training, position = self.config.training, self.position
        if position.step == 0:
            self.run.forget_after(-1)
            self._measure()
        self.run.forget_after(position.step)
        batches = self.loader.batches(position.step, training.steps)
        self.meter.start()
        with bar("pre-training", training.steps, "steps", done=position.step) as progress:
            while position.step < training.steps:
                self.step(self.meter.wait(batches))
                self._look(progress)
                if self._due(training.checkpoint_every):
                    self._save()
                    self.meter.start()

    def step(self, views: ViewBatch) -> None:
        """Do one step of the student, then of the teacher."""
        step, training = self.position.step, self.config.training
        set_rates(self.optimizer, self.schedule.lr(step), self.schedule.weight_decay(step))
        # Every random draw follows from the step's number, so resuming needs no generator's state.
        torch.manual_seed(derive_seed(training.seed, "step", step, distributed.rank()))
        with autocast(self.device, training.precision):
            losses, self.targets, self.tokens = self.losses(
                self.model, self.teacher, views, self.schedule.teacher_temperature(step)
            )
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        if self._is_finite(total):
            self.position.skipped = 0
            self._hold_back(step)
            if training.clip_norm:
                nn.utils.clip_grad_norm_(self.student.parameters(), training.clip_norm)
            self.optimizer.step()
            update_ema(self.teacher, self.student, self.schedule.momentum(step))
            self.meter.add({"loss": total, **losses}, self.global_batch)
        else:
            self.position.skipped += 1
            warn(f"the loss of step {step} is not finite: the step was skipped")
        self.optimizer.zero_grad(set_to_none=True)
        self.position.step += 1

    def _is_finite(self, loss: torch.Tensor) -> bool:
        """Return whether the loss is finite in every process.

        Raises:
            UserError: it was not for too many steps in a row.
        """
        bad = distributed.all_sum((~loss.detach().isfinite()).int())
        if not bad.item():
            return True
        if self.position.skipped + 1 >= SKIPPED:
            raise UserError(
                f"the loss was not finite for {SKIPPED} steps in a row, until step "
                f"{self.position.step}: lower training.lr, or set training.precision=fp32; the "
                f"last good checkpoint is kept in {self.run.checkpoints}"
            )
        return False

    def _hold_back(self, step: int) -> None:
        """Keep as they are the parts that do not learn yet."""
        if self.schedule.freezes_prototypes(step):
            for head in self.student.heads():
                drop_grads(head.prototypes.parameters())
        if isinstance(self.config.backbone.weights, Path) and self.schedule.freezes_backbone(step):
            drop_grads(self.student.backbone.parameters())

    def _look(self, progress: Bar) -> None:
        """Log, and look for a collapse, when it is time."""
        position, training = self.position, self.config.training
        if self._due(training.log_every):
            figures = self.meter.read()
            health = {"rank": effective_rank(self.tokens)}
            if self.targets is not None:
                entropies = target_entropies(self.targets)
                health |= zip(("entropy", "mean_entropy"), entropies, strict=True)
            step = position.step - 1
            settings = {
                "lr": self.schedule.lr(step),
                "momentum": self.schedule.momentum(step),
                "temperature": self.schedule.teacher_temperature(step),
            }
            record = {"kind": "train", "step": position.step, **settings, **figures, **health}
            self.run.log(record)
            entropy = f"  entropy {health['entropy']:.2f}" if "entropy" in health else ""
            self.seen = f"{self.meter.text}{entropy}  rank {health['rank']:.0f}"
            self._refuse_collapse(health)
        if self.config.online_knn and self._due(self.config.online_knn.every):
            self._measure()
        progress.advance(1, self.seen)

    def _refuse_collapse(self, health: dict[str, float]) -> None:
        position, rank = self.position, health["rank"]
        if self.global_batch < FEW_SAMPLES and not math.isnan(rank):
            rank = math.inf  # few points are near a line in any case
        how = collapse(rank, health.get("entropy"), health.get("mean_entropy"))
        # A teacher that has just begun is alike for all images.
        if how is None or self.schedule.warms_up(position.step):
            position.collapsed = 0
            return
        position.collapsed += 1
        if position.collapsed >= PATIENCE:
            raise UserError(
                f"the features collapsed by step {position.step} ({how}): lower training.lr or "
                "objective.teacher_temperature, or raise objective.koleo_weight; the checkpoints "
                f"before are in {self.run.checkpoints}"
            )

    def _measure(self) -> None:
        if self.online_knn:
            accuracy = self.online_knn.measure(self.teacher)
            self.run.log({"kind": "val", "step": self.position.step, "knn": accuracy})
            log_info(f"step {self.position.step}: kNN top-1 {accuracy:.2f} %")
            self.meter.start()

    def _due(self, every: int) -> bool:
        return self.position.step % every == 0 or self.position.step == self.config.training.steps

    def _save(self) -> None:
        if not distributed.all_finite(self.student):
            raise UserError(
                f"weights are not finite at step {self.position.step}, and are not kept: go on "
                f"with --resume from what is in {self.run.checkpoints}, with a lower training.lr "
                "or training.precision=fp32"
            )
        backbone, metadata = all_tensors(self.teacher.backbone), self.facts.to_metadata()

        def write_backbone(folder: Path) -> None:
            for place in (folder, self.run.folder):
                save_tensors(place / BACKBONE, backbone, metadata)

        checkpoint.save(
            self.run.checkpoints,
            self.state,
            self.position,
            kept=KEPT,
            keep_every=self.config.training.keep_every,
            beside=write_backbone,
        )


def build_branch(
    config: Pretraining, widths: tuple[int, int] = (0, 0)
) -> tuple[SSLNetwork, BackboneBundle]:
    """Build a student (or the teacher that begins as its copy), the same in every process.

    Args:
        config: the run.
        widths: of the targets in distillation; see `SSLNetwork`.

    Raises:
        UserError: a backbone that is not ours, or weights that do not fit.
    """
    if config.backbone.name not in SIZES:
        raise UserError(
            f"backbone.name: '{config.backbone.name}' cannot be pre-trained: choose one of "
            f"{', '.join(SIZES)}"
        )
    torch.manual_seed(config.training.seed)
    # Learning from nothing is what pre-training is for: shipped weights are not taken unasked.
    weights = config.backbone.weights or "random"
    settings = Backbone(**config.backbone.model_dump() | {"weights": weights}, tuning="full")
    built = backbone.build(settings, config.views.global_size)
    assert isinstance(built.module, VisionTransformer)
    return SSLNetwork(built.module, config.heads, config.objective, widths), built


def continue_from(path: Path, student: SSLNetwork, teacher: SSLNetwork, losses: Losses) -> None:
    """Take over what an earlier stage learned: backbones, heads and centres.

    Position embeddings are resampled to the grid of this stage.

    Args:
        path: a checkpoint, or a run directory, whose last one is taken.
        student: takes over the student's tensors.
        teacher: takes over the teacher's tensors.
        losses: take over the centres.

    Raises:
        UserError: no checkpoint, or one of another model.
    """
    if (path / "checkpoints").is_dir():
        path = checkpoint.latest(path / "checkpoints") or path
    parts: dict[str, nn.Module] = {"student": student, "teacher": teacher, "losses": losses}
    for name, module in parts.items():
        tensors = checkpoint.read_part(path, name)
        if isinstance(module, SSLNetwork) and "backbone.pos_embed" in tensors:
            grid, registers = module.backbone.grid, module.backbone.registers
            positions = tensors["backbone.pos_embed"]
            positions = resample_positions(positions, (grid, grid), registers)
            tensors["backbone.pos_embed"] = positions
        check_fit(module.state_dict(), tensors, path)
        module.load_state_dict(tensors)
