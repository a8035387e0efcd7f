"""One map to be made: of which scene, with which windows and classes, and where to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affine import Affine

from cgeartheye import __version__
from cgeartheye.geo.aoi import Aoi
from cgeartheye.geo.pair import AnyScene
from cgeartheye.inference.windows import Grid
from cgeartheye.mapping.clock import Clock
from cgeartheye.mapping.options import Options
from cgeartheye.utils.colors import RGB

UNFINISHED = "unfinished"
BACKGROUND = "background"
MAP, PROBABILITIES, PREVIEW, FACTS = "map.tif", "probabilities.tif", "preview.html", "map.json"


@dataclass(frozen=True)
class MapJob:
    """One map to be made.

    Attributes:
        out: the folder for the map alone.
        scene: that is mapped.
        grid: the model's windows over it.
        aoi: outside of it there is no data; none: all of the scene is mapped.
        classes: names, by value in the map or by label.
        colors: of the classes.
        options: of the user.
        settings: all that the bytes of the map depend on, for the ledger and `map.json`.
        clock: of what this run spends its time on.
    """

    out: Path
    scene: AnyScene
    grid: Grid
    aoi: Aoi | None
    classes: Sequence[str]
    colors: Sequence[RGB]
    options: Options
    settings: Mapping[str, Any]
    clock: Clock = field(default_factory=Clock)

    @property
    def work(self) -> Path:
        """The folder of unfinished files."""
        return self.out / UNFINISHED

    @property
    def rows(self) -> int:
        """Rows of windows, in the order of mapping: one strip of columns after the other."""
        return len(self.grid.starts) * len(self.grid.bands)

    @property
    def transform(self) -> Affine:
        """From the map's pixels (those of the scene, or cells) to its CRS."""
        rows, columns = self.grid.cell
        return self.scene.transform @ Affine.scale(columns, rows)

    @property
    def clear(self) -> tuple[int, ...]:
        """Values that are not seen in the preview and get no polygons: a background."""
        found = {0} if self.scene.dates else set()  # 0: nothing has changed
        if self.options.transparent is not None:
            found.add(list(self.classes).index(self.options.transparent))
        elif self.classes[0].lower() == BACKGROUND:
            found.add(0)
        return tuple(sorted(found))

    @property
    def pixel_area(self) -> float:
        """Square metres of a pixel of the map."""
        ground, cell = self.scene.ground, self.grid.cell
        return ground[0] * ground[1] * cell[0] * cell[1]

    def describe(self) -> dict[str, Any]:
        """Return what `map.json` holds of every kind of map."""
        scene, grid = self.scene, self.grid
        return {
            "format": 1,
            "cgeartheye": __version__,
            "settings": self.settings,
            "time": self.clock.describe(),
            "scene": {
                "width": scene.width,
                "height": scene.height,
                "crs": scene.crs.to_string() if scene.crs else None,
                "transform": list(scene.transform[:6]),
                "metres_a_pixel": scene.ground,
                **scene.facts,
            },
            "model_grid": {
                "rows": grid.rows.model,
                "columns": grid.columns.model,
                "resampled": grid.resampled,
                "metres_a_pixel": grid.meters(scene.ground),
                "windows": len(grid.starts) * sum(len(band.starts) for band in grid.bands),
            },
        }
