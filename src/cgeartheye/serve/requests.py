"""From the inputs of an execution to a job: everything is checked before it is accepted."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import shapely
from pydantic import BaseModel, ConfigDict, Field
from pyproj import Geod
from shapely.geometry import shape

from cgeartheye.apps.card import Card
from cgeartheye.apps.fit import Fit, examine
from cgeartheye.geo.remote import address_of
from cgeartheye.jobs.store import JobStore
from cgeartheye.serve.auth import User
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.scenes import Scenes, ServedScene
from cgeartheye.serve.settings import Settings

_MOST_VERTICES = 20_000
_GEOD = Geod(ellps="WGS84")


class MapOptions(BaseModel):
    """Options of a map; see `cgeartheye map --help`."""

    model_config = ConfigDict(extra="forbid")

    gsd: float | None = Field(None, gt=0, le=1000, description="GSD in m/px that the model sees")
    overlap: float | None = Field(None, ge=0, le=0.9, description="of neighboring windows")
    probabilities: bool = Field(False, description="write those of every class")
    vector_format: list[Literal["gpkg", "parquet", "geojson", "fgb"]] = Field(
        ["gpkg"],
        max_length=4,
        description="polygons: gpkg, parquet, geojson, fgb",
    )
    min_area: float | None = Field(
        None, gt=0, le=1e9, description="of a polygon in m2; smaller areas go to those beside them"
    )
    smooth: bool = Field(False, description="cut the corners of polygons")
    coregister: bool = Field(False, description="of two dates: move the second onto the first")
    score_threshold: float | None = Field(None, ge=0, le=1, description="least score of an object")


class Inputs(BaseModel):
    """Inputs of the execution of an application."""

    model_config = ConfigDict(extra="forbid")

    scene: str | list[str] = Field(description="id of a scene, or of several as one mosaic")
    after: str | list[str] | None = Field(
        None, description="of two dates: the scene of the second; `scene` is then the first"
    )
    area: dict[str, Any] | None = Field(
        None, description="GeoJSON Polygon or MultiPolygon in longitude and latitude; none: all"
    )
    options: MapOptions = Field(default_factory=MapOptions)


class Execution(BaseModel):
    """Body of an execution; OGC's `outputs`, `response` and `subscriber` change nothing here."""

    inputs: Inputs
    outputs: dict[str, Any] | None = None
    response: str | None = None


class Planner:
    """Checks what is asked for, and estimates what it will take."""

    def __init__(self, settings: Settings, scenes: Scenes, store: JobStore):
        """Take what requests are held against.

        Args:
            settings: limits.
            scenes: of the server.
            store: of the jobs; finished ones give this machine's rate.
        """
        self._settings, self._scenes, self._store = settings, scenes, store

    def fit(self, card: Card, inputs: Inputs, user: User) -> dict[str, Any]:
        """Return whether scenes fit an application, and what a map of them will take.

        Args:
            card: of the application.
            inputs: scenes and area.
            user: who asks.

        Raises:
            Problem: a scene or an area that is none.
        """
        first, second = self._find(inputs, user)
        fit = self._examine(card, first, second)
        share = 1.0
        if fit.ok and inputs.area is not None:
            inside, whole = _inside(inputs.area, first)
            share = inside / whole
        rate = self.rate(card)
        pixels = round(fit.pixels * share)
        return {
            "ok": fit.ok,
            "problems": list(fit.problems),
            "square_km": fit.square_km * share,
            "pixels": pixels,
            "seconds": None if rate is None else pixels * rate,
            "disk_bytes": _disk_bytes(first),
        }

    def request(self, card: Card, inputs: Inputs, user: User) -> dict[str, Any]:
        """Return the request of a job.

        Args:
            card: of the application.
            inputs: of the execution.
            user: who asks.

        Raises:
            Problem: 404, 413 or 422: unknown scenes, too large an area, or a scene that does not
                fit.
        """
        first, second = self._find(inputs, user)
        fit = self._examine(card, first, second)
        if not fit.ok:
            raise Problem(422, fit.problems[0])
        square_km, share, area = fit.square_km, 1.0, None
        if inputs.area is not None:
            inside, whole = _inside(inputs.area, first)
            area, share = inputs.area, inside / whole
            square_km = inside / 1e6
        if square_km > self._settings.max_area:
            raise Problem(
                413,
                f"{square_km:,.1f} km2 are more than the {self._settings.max_area:,.1f} km2 that a "
                "job may have: draw a smaller area",
            )
        options = inputs.options.model_dump(exclude_none=True)
        if card.task == "object_detection":
            options.pop("probabilities")
        elif options.pop("score_threshold", None) is not None:
            raise Problem(422, "options.score_threshold is for applications that detect objects")
        if "min_area" in options or options["smooth"]:
            if card.task not in ("semantic_segmentation", "change_detection"):
                raise Problem(422, "options.min_area and options.smooth are for maps of pixels")
            if not options["vector_format"]:
                raise Problem(422, "options.min_area and options.smooth need a vector_format")
        if not options.get("coregister"):
            options.pop("coregister", None)
        return {
            "scenes": [str(scene.path) for scene in first],
            "after": [str(scene.path) for scene in second] if second else None,
            "labels": [scene.label for scene in (*first, *(second or ()))],
            "scene_ids": [scene.id for scene in (*first, *(second or ()))],
            "bounds": list(
                shapely.union_all([shapely.box(*s.facts["bounds"]) for s in first]).bounds
            ),
            "area": area,
            "options": options,
            "pixels": round(fit.pixels * share),
            "square_km": square_km,
            "version": card.version,
            "disk_bytes": _disk_bytes(first),
        }

    def rate(self, card: Card) -> float | None:
        """Return seconds a pixel of earlier jobs of an application, their median; none: unknown."""
        rates = sorted(
            (job.finished - job.started) / job.request["pixels"]
            for job in self._store.find(statuses=("successful",), app=card.id, limit=20)
            if job.finished and job.started and job.request.get("pixels")
        )
        return rates[len(rates) // 2] if rates else None

    def _find(
        self, inputs: Inputs, user: User
    ) -> tuple[list[ServedScene], list[ServedScene] | None]:

        def those(given: str | list[str]) -> list[ServedScene]:
            ids = [given] if isinstance(given, str) else given
            if not 1 <= len(ids) <= 10_000:
                raise Problem(400, "inputs.scene: name one scene or more")
            return [self._scenes.get(one, user.sees) for one in ids]

        return those(inputs.scene), None if inputs.after is None else those(inputs.after)

    def _examine(
        self, card: Card, first: Sequence[ServedScene], second: Sequence[ServedScene] | None
    ) -> Fit:
        before, after = ([s.path for s in some or ()] for some in (first, second))
        fit = examine(card, before, after if second else None)
        labels = {
            name: scene.label
            for scene in (*first, *(second or ()))
            for name in (str(scene.path), address_of(scene.path))
        }
        return Fit(
            tuple(_relabel(problem, labels) for problem in fit.problems), fit.square_km, fit.pixels
        )


def _disk_bytes(scenes: Sequence[ServedScene]) -> int:
    """Return what the files of a map need, about: those that are unfinished, and the last ones."""
    pixels: int = sum(scene.facts["width"] * scene.facts["height"] for scene in scenes)
    return 3 * pixels


def _relabel(text: str, labels: dict[str, str]) -> str:
    for path, label in labels.items():
        text = text.replace(path, label)
    return text


def _inside(area: dict[str, Any], scenes: Sequence[ServedScene]) -> tuple[float, float]:
    """Return how much of the scenes an area covers, and how large they are, m2.

    Raises:
        Problem: it is no area, or it is elsewhere.
    """
    try:
        geometry = shape(area)
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise Problem(400, "inputs.area is no GeoJSON geometry") from error
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        raise Problem(400, "inputs.area must be a Polygon or a MultiPolygon")
    if shapely.get_num_coordinates(geometry) > _MOST_VERTICES:
        raise Problem(413, f"inputs.area has more than {_MOST_VERTICES:,} vertices: simplify it")
    west, south, east, north = geometry.bounds
    if not all(map(math.isfinite, geometry.bounds)) or west < -180 or east > 180 or north > 90:
        raise Problem(400, "inputs.area must be in degrees of longitude and latitude")
    if south < -90:
        raise Problem(400, "inputs.area must be in degrees of longitude and latitude")
    geometry = shapely.make_valid(geometry)
    outlines = shapely.union_all([shapely.Polygon(scene.facts["outline"]) for scene in scenes])
    common = geometry.intersection(outlines)
    inside, whole = (abs(_GEOD.geometry_area_perimeter(one)[0]) for one in (common, outlines))
    if not inside:
        raise Problem(422, "the area is outside of the scene")
    return inside, whole
