"""Trainings: from a config to a run directory, and what that holds."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgeartheye.api.isolation import own_random_state
from cgeartheye.api.messages import python_words
from cgeartheye.api.notebook import axes_or_new, table
from cgeartheye.commands import tasks
from cgeartheye.config import Config, load, make, refuse_other_kinds
from cgeartheye.reports.sections import select_records
from cgeartheye.training.run_dir import Record, read_history
from cgeartheye.utils.console import muted
from cgeartheye.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TESTED = "test.json"


class Run:
    """A run directory; what it holds is read from its files.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open a run directory.

        Raises:
            UserError: it is none.
        """
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            raise UserError(f"{self.path} is no run directory: it has no config.yaml")

    @property
    def config(self) -> Config:
        """The resolved config."""
        return refuse_other_kinds(load(self.path / "config.yaml"), str(self.path))

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the best model on the test part, in percent.

        Raises:
            UserError: it was not tested.
        """
        path = self.path / TESTED
        if not path.is_file():
            raise UserError(f"{self.path} was not tested: there is no {TESTED}; train to the end")
        figures: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return figures

    @property
    def history(self) -> list[Record]:
        """The log: records of `kind` train (loss, lr) and val (figures) with `step` and `epoch`."""
        return read_history(self.path)

    @property
    def report(self) -> Path:
        """The report, an HTML page that needs no network."""
        return self.path / "report.html"

    def __fspath__(self) -> str:
        """Return the path: a run can be given wherever a run directory can."""
        return str(self.path)

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.2f}" for name, value in self._figures().items())
        return f"<Run {self.path}: {figures or 'not tested'}>"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the training loss, and the validation figure that marks the best model.

        Args:
            ax: matplotlib's axes; none: those of a new figure.
        """
        ax = axes_or_new(ax)
        trained = select_records(self.history, "train", "epoch", "loss")
        ax.plot([r["epoch"] for r in trained], [r["loss"] for r in trained], label="training loss")
        ax.set(xlabel="epoch", ylabel="loss", title=self.path.name)
        tested = select_records(self.history, "val", "epoch")
        if tested:
            first = next(name for name in tested[0] if name not in {"kind", "step", "epoch"})
            tested = select_records(tested, "val", first)
            right = ax.twinx()
            epochs, values = [r["epoch"] for r in tested], [r[first] for r in tested]
            right.plot(epochs, values, "o-", color="C1", label=f"validation {first} %")
            right.set_ylabel(f"{first} %")
            lines = [*ax.lines, *right.lines]
            ax.legend(lines, [str(line.get_label()) for line in lines])
        return ax

    def _repr_html_(self) -> str:
        figures = {f"{name} %": f"{value:.2f}" for name, value in self._figures().items()}
        link = f'<a href="{self.report.as_posix()}">{self.report.as_posix()}</a>'
        return table({"run": self.path, **figures}) + link

    def _figures(self) -> dict[str, float]:
        if not (self.path / TESTED).is_file():
            return {}
        return {name: value for name, value in self.metrics.items() if value == value}


def train(
    config: str | PathLike[str] | Config | Mapping[str, Any],
    *,
    work_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    **overrides: Any,
) -> Run:
    """Train a model, test the best one, and write its report.

    Args:
        config: a config file (.yaml or .py), a config object such as `SceneClassification(...)`,
            or its fields as a dict.
        work_dir: the run directory; none: that of the config, or `runs/<name of the file>`, or
            `runs/<task>`.
        resume: go on with the last checkpoint of the run directory, if there is one.
        progress: whether bars and lines are shown.
        overrides: fields of the config by their dotted names, such as
            `**{"training.epochs": 5}`, or a dict for a section, `training={"epochs": 5}`.

    Returns:
        The run: `metrics`, `report`, `path`, `config`, `history`.

    Raises:
        UserError: a field that does not exist or does not fit, data that are missing or cannot be
            read, a run directory that is in use, or a loss that is not finite.

    Examples:
        >>> import cgeartheye as cge
        >>> run = cge.train(
        ...     "mine.yaml", work_dir="runs/short", progress=False, **{"training.epochs": 1}
        ... )
        >>> sorted(run.metrics)
        ['ece', 'macro_f1', 'mean_accuracy', 'top1', 'top5']
        >>> run.path.name, run.report.name
        ('short', 'report.html')
    """
    changed = dict(overrides) | ({} if work_dir is None else {"work_dir": Path(work_dir)})
    if isinstance(config, str | PathLike):
        read = load(Path(config), changed)
        source = str(config)
    else:
        read, source = make(config, changed), "the config"
    checked = refuse_other_kinds(read, source)
    with python_words(), own_random_state(), muted(not progress):
        tasks.train(checked, resume=resume)
    assert checked.work_dir is not None
    return Run(checked.work_dir)
