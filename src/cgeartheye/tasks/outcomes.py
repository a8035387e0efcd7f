"""Outcomes of a test in each image, `outcomes.npy`: intervals and comparisons stand on them."""

from pathlib import Path

import numpy as np

from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

OUTCOMES = "outcomes.npy"


def write_outcomes(folder: Path, outcomes: np.ndarray) -> None:
    """Write the outcomes of a test.

    Args:
        folder: of the run.
        outcomes: in the order of the test part, `[images]` the share of right answers, or
            `[images, K, K]` the confusion matrix of each image's pixels.
    """
    with replacing(folder / OUTCOMES) as temporary, temporary.open("wb") as file:
        np.save(file, outcomes)


def read_outcomes(folder: Path) -> np.ndarray | None:
    """Return what `write_outcomes` wrote; none where a test has none.

    Args:
        folder: of the run.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / OUTCOMES
    if not path.exists():
        return None
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged: test the run again") from error
    return found
