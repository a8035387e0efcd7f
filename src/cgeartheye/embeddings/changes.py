"""Change through time: distances between the features of a place at several dates."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cgeartheye.embeddings.store import Bools, Embedding, Reals, check_same_weights
from cgeartheye.utils.errors import UserError

_NONE = 1e-12  # length of what has no direction


@dataclass(frozen=True)
class Moment:
    """A place at a date.

    Attributes:
        scene: name of the scene.
        date: ISO 8601, if known.
        from_first: cosine distance from the first date, 0..2.
        from_last: from the date before.
    """

    scene: str
    date: str | None
    from_first: float
    from_last: float


def by_date(embeddings: Sequence[Embedding]) -> list[Embedding]:
    """Return embeddings of one place in the order of their dates.

    Raises:
        UserError: fewer than two, of different weights, or one without a date.
    """
    if len(embeddings) < 2:
        raise UserError("change needs embeddings of two dates at least: embed another scene")
    check_same_weights(embeddings)
    for each in embeddings:
        if each.date is None:
            raise UserError(
                f"the date of {each.folder} is not known: give the scene a TIFFTAG_DATETIME, or a "
                "name with the date in it, and embed it again"
            )
    return sorted(embeddings, key=lambda each: each.date or "")


def refuse_same_dates(embeddings: Sequence[Embedding]) -> None:
    """Refuse embeddings that are not of different dates.

    Args:
        embeddings: of one place, by date.

    Raises:
        UserError: two are of one date.
    """
    for first, second in pairwise(embeddings):
        if first.date == second.date:
            raise UserError(
                f"{first.folder} and {second.folder} are both of {first.date}, so neither shows "
                "what changed: move one to another folder"
            )


def timeline(embeddings: Sequence[Embedding], place: tuple[float, float]) -> list[Moment]:
    """Return how much a place changed, date by date.

    Args:
        embeddings: of the dates.
        place: longitude and latitude.

    Raises:
        UserError: fewer than two dates see the place, or two scenes of one date do.
    """
    seen = []
    for each in by_date(embeddings):
        rows, columns, inside = each.find([place])
        if inside[0]:
            features = each.features(rows, columns)[0] - each.projection.mean
            seen.append((each, features / max(float(np.linalg.norm(features)), _NONE)))
    if len(seen) < 2:
        raise UserError(
            f"the place {place[0]:g},{place[1]:g} is seen at fewer than two dates: name one inside"
        )
    refuse_same_dates([each for each, _ in seen])
    moments = []
    for number, (each, features) in enumerate(seen):
        first, last = seen[0][1], seen[max(0, number - 1)][1]
        far = (_distance(features, other) for other in (first, last))
        moments.append(Moment(each.name, each.date, *far))
    return moments


def _distance(first: Reals, second: Reals) -> float:
    """Cosine distance of two directions; of none from none it is 0."""
    return round(float(1 - first @ second), 4) if first.any() or second.any() else 0.0


def changed(before: Embedding, after: Embedding) -> tuple[Reals, Bools]:
    """Measure how much each patch of a date differs from what lay there at another.

    Features are compared around the mean of their scene: a season that changes all of it is no
    change.

    Args:
        before: the first date.
        after: the second, on any grid; each patch is compared with that around its middle.

    Returns:
        Cosine distances float32 `[rows, columns]` on the grid of `before`, 0..2; and where both
        dates have data.

    Raises:
        UserError: embeddings of different weights, or scenes that do not overlap.
    """
    check_same_weights([before, after])
    rows, columns = np.nonzero(before.valid)
    at_rows, at_columns, inside = after.find(np.stack(before.centers(rows, columns), axis=1))
    if not inside.any():
        raise UserError(f"{before.name} and {after.name} do not overlap: name two dates of a place")
    distances, known = np.zeros(before.shape, np.float32), np.zeros(before.shape, bool)
    here = rows[inside], columns[inside]
    there = at_rows[inside], at_columns[inside]
    # The dot product of both in all channels, which neither needs to be unfolded to.
    turn = after.projection.basis.T @ before.projection.basis
    first, second = before.components(*here), after.components(*there)
    lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    dots = np.einsum("nd,nd->n", second @ turn, first)
    far = 1 - dots / np.maximum(lengths[0] * lengths[1], _NONE)
    # Where both dates are as the mean of their scene there is no direction that could change.
    distances[here] = np.where(np.maximum(*lengths) < _NONE, 0, far)
    known[here] = True
    return distances, known
