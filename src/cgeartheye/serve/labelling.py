"""Labels of users on embedded scenes: kept as GeoPackages, fitted again after every change."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from shapely.geometry import mapping, shape

from cgeartheye.embeddings.calibration import Calibration, calibrate
from cgeartheye.embeddings.crossval import HeldOut, leave_places_out
from cgeartheye.embeddings.decoder import Decoder, fit_decoder
from cgeartheye.embeddings.labels import (
    CLASS,
    COLOR,
    SOURCE,
    TIME,
    LabelledPatches,
    colors_of,
    frame_of,
    named_classes,
    patches_of,
)
from cgeartheye.embeddings.labels import read_labels as read_file
from cgeartheye.embeddings.search import SceneIndex
from cgeartheye.embeddings.store import Embedding, Reals, open_embeddings
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.serve.problems import Problem
from cgeartheye.utils.colors import RGB
from cgeartheye.utils.errors import UserError

EMBED = "embed"
"""Id of an application that jobs have which embed a scene."""

_MOST_LABELS, _MOST_VERTICES, _MOST_NAME, _MOST_TEXT = 5_000, 100_000, 80, 200
_KEPT, _KEPT_INDEXES = 4, 2  # embeddings and fits, and indexes, that are kept in memory
_MOST_PATCHES = 10_000_000  # that are searched at once


@dataclass(frozen=True, eq=False)
class CurrentMap:
    """Map that the labels of a user make of a scene.

    Attributes:
        embedding: of the scene.
        patches: that are labelled.
        decoder: fitted to them.
        probabilities: of all patches `[rows, columns, K]`.
        colors: of the classes.
        version: of the labels, for addresses of tiles.
    """

    embedding: Embedding
    patches: LabelledPatches
    decoder: Decoder
    probabilities: Reals
    colors: tuple[RGB, ...]
    version: str

    @cached_property
    def held_out(self) -> HeldOut | None:
        """Scores of places that the fit left out, if there are enough; it takes some fits."""
        return leave_places_out(self.patches, self.embedding)

    @cached_property
    def calibration(self) -> Calibration | None:
        """Calibration of the probabilities, if there are enough places."""
        return calibrate(self.held_out) if self.held_out else None

    @property
    def legend(self) -> list[dict[str, Any]]:
        """Name, color and share of each class."""
        likeliest = self.probabilities[self.embedding.valid].argmax(-1)
        counts = np.bincount(likeliest, minlength=len(self.decoder.names))
        return [
            {"name": name, "color": color, "share": count / max(1, likeliest.size)}
            for name, color, count in zip(
                self.decoder.names, self.colors, counts.tolist(), strict=True
            )
        ]


class Labelling:
    """Embeddings, labels and fits of a server; safe to use from several threads."""

    def __init__(self, jobs: Path, folder: Path):
        """Take the folders.

        Args:
            jobs: that has a folder for each job.
            folder: of the labels.
        """
        self._jobs, self._folder = jobs, folder
        self._lock = threading.RLock()
        self._embeddings: OrderedDict[str, Embedding] = OrderedDict()
        self._indexes: OrderedDict[tuple[tuple[str, str], ...], tuple[SceneIndex, int]]
        self._indexes = OrderedDict()
        self._fits: OrderedDict[tuple[str, Path, str], CurrentMap | None] = OrderedDict()

    def embedding(self, job: str) -> Embedding:
        """Return the embedding that a job has made.

        Raises:
            Problem: 404: it is gone.
        """
        with self._lock:
            if job not in self._embeddings:
                try:
                    self._embeddings[job] = open_embeddings(self._jobs / job / "map")[0]
                except UserError as error:
                    raise Problem(404, "the embedding is gone: prepare the scene again") from error
                while len(self._embeddings) > _KEPT:
                    self._embeddings.popitem(last=False)
            self._embeddings.move_to_end(job)
            return self._embeddings[job]

    def index(self, jobs: Mapping[str, str]) -> tuple[SceneIndex, int]:
        """Return an index of scenes, and of how many there is no place in it.

        Args:
            jobs: that have embedded scenes, by the ids of these; with the first one the weights of
                others must agree.

        Raises:
            Problem: 404: the first one's embedding is gone.
        """
        key = tuple(jobs.items())
        with self._lock:
            if key not in self._indexes:
                self._indexes[key] = self._index(jobs)
                while len(self._indexes) > _KEPT_INDEXES:
                    self._indexes.popitem(last=False)
            self._indexes.move_to_end(key)
            return self._indexes[key]

    def _index(self, jobs: Mapping[str, str]) -> tuple[SceneIndex, int]:
        found: dict[str, Embedding] = {}
        for scene, job in jobs.items():
            try:
                embedding = self.embedding(job)
            except Problem:
                if not found:
                    raise
                continue
            first = next(iter(found.values()), embedding)
            patches = sum(each.valid.size for each in found.values()) + embedding.valid.size
            if embedding.weights == first.weights and (not found or patches <= _MOST_PATCHES):
                found[scene] = embedding
        return SceneIndex(list(found.values()), list(found)), len(jobs) - len(found)

    def path(self, scene: str, user: str) -> Path:
        """Return the file of a user's labels of a scene, which need not be there.

        It is the scene's and not the embedding's, which may be made anew.
        """
        return self._folder / scene / f"{user}.gpkg"

    def read(self, scene: str, user: str) -> geopandas.GeoDataFrame | None:
        """Return a user's labels in longitude and latitude, the oldest first; none: there are none.

        Args:
            scene: its id.
            user: name of the token.
        """
        path = self.path(scene, user)
        return read_file(path) if path.is_file() else None

    def version(self, scene: str, user: str) -> str:
        """Return what changes when a user's labels of a scene do, hexadecimal.

        Args:
            scene: its id.
            user: name of the token.
        """
        path = self.path(scene, user)
        with self._lock:
            return f"{path.stat().st_mtime_ns:x}" if path.is_file() else "0"

    def write(
        self,
        scene: str,
        user: str,
        features: Sequence[dict[str, Any]],
        source: str | None = None,
        version: str | None = None,
    ) -> str:
        """Put labels in the place of a user's; returns the version of what is then there.

        Args:
            scene: its id.
            user: name of the token.
            features: of GeoJSON, with the property `class` (`time`, `color` and `source` too), in
                the order in which they were made.
            source: only labels of this source are replaced; none: all.
            version: of the labels that are replaced; none: whatever is there.

        Raises:
            Problem: 400, 409 or 413: what is no label, other labels than those of the version are
                there, or too much.
        """
        with self._lock:
            if version not in (None, self.version(scene, user)):
                raise Problem(409, "the labels were changed by others: read them again")
            if source is not None:
                known = as_geojson(self.read(scene, user))["features"]
                kept = [one for one in known if one["properties"][SOURCE] != source]
                features = [*kept, *features]
            frame = _frame_of(features, user)
            path = self.path(scene, user)
            if frame is None:
                path.unlink(missing_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_vectors([frame], path)
            return self.version(scene, user)

    def current(self, job: str, scene: str, user: str) -> CurrentMap | None:
        """Return what a user's labels make of a scene; none: they are of fewer than two classes.

        Args:
            job: of the embedding.
            scene: its id.
            user: name of the token.

        Raises:
            UserError: all labels are outside, of too many classes, or cannot be read.
        """
        with self._lock:
            labels = self.read(scene, user)
            if labels is None:
                return None
            key = job, self.path(scene, user), self.version(scene, user)
            if key not in self._fits:
                self._fits[key] = self._fit(job, labels, key[2])
                while len(self._fits) > _KEPT:
                    self._fits.popitem(last=False)
            self._fits.move_to_end(key)
            return self._fits[key]

    def patches(self, job: str, scene: str, user: str) -> LabelledPatches | None:
        """Return the patches of a user's labels, of any number of classes; none: none is inside.

        Args:
            job: of the embedding.
            scene: its id.
            user: name of the token.

        Raises:
            UserError: they cannot be read.
        """
        labels, embedding = self.read(scene, user), self.embedding(job)
        if labels is None:
            return None
        try:
            return patches_of(labels, embedding, named_classes(labels))
        except UserError:
            return None  # all are outside

    def _fit(self, job: str, labels: geopandas.GeoDataFrame, version: str) -> CurrentMap | None:
        if len(named_classes(labels)) < 2:
            return None
        embedding = self.embedding(job)
        patches = patches_of(labels, embedding)
        if len(np.unique(patches.classes)) < 2:
            return None
        decoder = fit_decoder(patches, embedding)
        probabilities = decoder.decode(embedding)
        colors = colors_of(labels, patches.names)
        return CurrentMap(embedding, patches, decoder, probabilities, colors, version)


def asked_version(if_match: str | None) -> str | None:
    """Return the version that the header If-Match names; none: whatever is there."""
    # Proxies that compress make an ETag a weak one, or append to it.
    version = (if_match or "*").removeprefix("W/").strip('"').partition("-")[0]
    return None if version == "*" else version


def _frame_of(features: Sequence[dict[str, Any]], user: str) -> geopandas.GeoDataFrame | None:
    """Return the table of labels; none: there are none."""
    if len(features) > _MOST_LABELS:
        raise Problem(413, f"more than {_MOST_LABELS:,} labels: remove some")
    shapes, rows = [], []
    for feature in features:
        try:
            geometry, own = shape(feature["geometry"]), feature["properties"]
            name = str(own[CLASS]).strip()
        except (KeyError, TypeError, ValueError, AttributeError, shapely.GEOSException) as e:
            raise Problem(400, "a label is no GeoJSON Feature with the property 'class'") from e
        if geometry.is_empty or not np.isfinite(geometry.bounds).all():
            raise Problem(400, "a label has no place")
        if not 1 <= len(name) <= _MOST_NAME:
            raise Problem(400, f"a class needs a name of 1 to {_MOST_NAME} letters")
        shapes.append(geometry)
        more = (str(own.get(key) or "")[:_MOST_TEXT] for key in (COLOR, SOURCE))
        rows.append((name, str(own.get(TIME) or now()), *more))
    if sum(map(shapely.get_num_coordinates, shapes)) > _MOST_VERTICES:
        raise Problem(413, f"labels have more than {_MOST_VERTICES:,} vertices: simplify them")
    if not shapes:
        return None
    names, times, colors, sources = zip(*rows, strict=True)
    return frame_of(shapes, names, user, times, colors, sources)


def as_geojson(labels: geopandas.GeoDataFrame | None) -> dict[str, Any]:
    """Return labels as a FeatureCollection.

    Args:
        labels: in longitude and latitude; none: none.
    """
    features: list[dict[str, Any]] = []
    if labels is not None:
        features = [
            {
                "type": "Feature",
                "properties": {name: row[name] for name in (CLASS, TIME, COLOR, SOURCE)},
                "geometry": mapping(row["geometry"]),
            }
            for row in labels.to_dict("records")
        ]
    return {"type": "FeatureCollection", "features": features}


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
