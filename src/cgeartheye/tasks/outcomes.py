"""Outcomes of a test in each image: intervals and comparisons stand on them.

They are `outcomes.npy`, and `outcomes.npz` of a detector.
"""

from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cgeartheye.metrics.detection.resampling import BoxOutcomes
from cgeartheye.metrics.resampling import Outcomes
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

OUTCOMES = "outcomes.npy"
BOX_OUTCOMES = "outcomes.npz"


def write_outcomes(folder: Path, outcomes: Outcomes) -> None:
    """Write the outcomes of a test.

    Args:
        folder: of the run.
        outcomes: in the order of the test part, `[images]` the share of right answers,
            `[images, K, K]` the confusion matrix of each image's pixels, or those of boxes.
    """
    if isinstance(outcomes, BoxOutcomes):
        with replacing(folder / BOX_OUTCOMES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **asdict(outcomes))
    else:
        with replacing(folder / OUTCOMES) as temporary, temporary.open("wb") as file:
            np.save(file, outcomes)


def read_outcomes(folder: Path) -> Outcomes | None:
    """Return what `write_outcomes` wrote; none where a test has none.

    Args:
        folder: of the run.

    Raises:
        UserError: the file is damaged.
    """
    for path in (folder / OUTCOMES, folder / BOX_OUTCOMES):
        if path.exists():
            try:
                return _read(path)
            except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
                raise UserError(f"{path} is damaged: test the run again") from error
    return None


def _read(path: Path) -> Outcomes:
    found = np.load(path, allow_pickle=False)
    if path.name == OUTCOMES:
        values: np.ndarray = found
        return values
    with found:
        return BoxOutcomes(
            oriented=bool(found["oriented"]),
            **{name: found[name] for name in found.files if name != "oriented"},
        )
