"""Check whether an application can map a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cgeartheye.apps.card import Card
from cgeartheye.geo.pair import AnyScene, open_pair
from cgeartheye.geo.reader import open_scene
from cgeartheye.utils.errors import UserError

ANY_STRETCH = (0.0, 1.0)  # no values are looked at, so that their percentiles are not either
COARSEST, FINEST = 1.5, 8.0  # times the application's GSD, and this many times finer


@dataclass(frozen=True)
class Fit:
    """Result of holding a scene against an application.

    Attributes:
        problems: sentences on what forbids a map; none: it can be made.
        square_km: that would be mapped.
        pixels: as the network sees them.
    """

    problems: tuple[str, ...]
    square_km: float = 0.0
    pixels: int = 0

    @property
    def ok(self) -> bool:
        """Return whether the scene can be mapped."""
        return not self.problems


def examine(card: Card, scenes: Sequence[Path], after: Sequence[Path] | None = None) -> Fit:
    """Hold a scene against an application's card.

    Args:
        card: of the application.
        scenes: of the only or the first date.
        after: of the second.
    """
    if (after is not None) != (card.dates == 2):
        sees = "one date" if card.dates == 1 else "two dates"
        return Fit((f"'{card.title}' sees {sees} of a place: choose as many scenes",))
    try:
        scene: AnyScene
        if after is None:
            scene = open_scene(scenes, card.bands, ANY_STRETCH)
        else:
            scene = open_pair(scenes, after, card.bands, ANY_STRETCH)
    except UserError as error:
        return Fit((str(error),))
    ground = sum(scene.ground) / 2
    problems = []
    if card.gsd is not None:
        ratio = ground / card.gsd
        if ratio > COARSEST:
            problems.append(
                f"the scene has {ground:.2f} m/px, and '{card.title}' sees {card.gsd:.2f} m/px: "
                "what it looks for is too small here"
            )
        elif ratio < 1 / FINEST:
            problems.append(
                f"the scene has {ground:.3f} m/px, far finer than the {card.gsd:.2f} m/px of "
                f"'{card.title}': it was made for another kind of image"
            )
    square_km = scene.width * scene.height * scene.ground[0] * scene.ground[1] / 1e6
    seen = card.gsd or ground
    return Fit(tuple(problems), square_km, round(square_km * 1e6 / seen**2))
