"""Places to label next: kinds of ground of which the decoder is not sure."""

from collections.abc import Sequence

import geopandas
import numpy as np
import numpy.typing as npt
import pandas
import shapely
from sklearn.cluster import KMeans, kmeans_plusplus

from cgeartheye.embeddings.decoder import Decoder
from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.store import Embedding, Ints, Reals
from cgeartheye.geo.crs import WGS84
from cgeartheye.utils.errors import UserError

_SPREAD = 20_000  # patches that are looked at where nothing is labelled, drawn at random
_CLUSTERED, _MOST_CLUSTERS = 4_000, 100  # patches drawn at random, and their clusters
_LEAST_DOUBT = 1e-3


def suggest(
    embedding: Embedding,
    decoder: Decoder | None,
    patches: LabelledPatches | None,
    count: int,
    seed: int = 0,
) -> tuple[Ints, Ints]:
    """Choose patches to label next.

    Patches are clustered, each with its doubt as its weight; of the clusters without a label the
    heaviest come first, and of each the patch nearest to its middle: many patches are in doubt
    there, and of a kind that no label covers (CLUE, Prabhu et al. 2021). Without a decoder
    patches are spread over the features (k-means++, Arthur and Vassilvitskii 2007).

    Args:
        embedding: of the scene.
        decoder: fitted to `patches`; none: fewer than two classes are labelled yet.
        patches: that are labelled; none: nothing is.
        count: patches wanted.
        seed: of what is drawn at random.

    Returns:
        Rows and columns, the most useful first.

    Raises:
        UserError: all that has data is labelled.
    """
    free = embedding.valid if patches is None else embedding.valid & ~patches.covered
    rows, columns = np.nonzero(free)
    if not len(rows):
        raise UserError(f"labels are on all of {embedding.name} that has data: no place is left")
    random = np.random.default_rng(seed)
    if decoder is None or patches is None:
        some = random.permutation(len(rows))[:_SPREAD]
        x_ND = embedding.components(rows[some], columns[some])
        picked = kmeans_plusplus(x_ND, min(count, len(some)), random_state=seed)[1]
        return rows[some[picked]], columns[some[picked]]
    some = random.permutation(len(rows))[:_CLUSTERED]
    x_ND = embedding.components(rows[some], columns[some])
    doubt = 1 - margins(decoder.probabilities(x_ND)) + _LEAST_DOUBT
    known = embedding.components(patches.rows, patches.columns)
    places = len(np.unique(patches.labels)) + count
    chosen = _middles(x_ND, doubt, known, min(places, _MOST_CLUSTERS, len(some)), count, seed)
    return rows[some[chosen]], columns[some[chosen]]


def _middles(x_ND: Reals, doubt: Reals, known: Reals, clusters: int, count: int, seed: int) -> Ints:
    """Return the patches in the middles of the clusters of most doubt."""
    found = KMeans(clusters, n_init=1, max_iter=20, random_state=seed)
    found.fit(x_ND, sample_weight=doubt)
    mass = np.bincount(found.labels_, doubt, minlength=clusters)
    mass[np.unique(found.predict(known))] -= mass.sum()  # after those without a label
    far = ((x_ND - found.cluster_centers_[found.labels_]) ** 2).sum(-1)
    chosen = []
    for cluster in np.argsort(-mass, kind="stable")[:count].tolist():
        members = np.flatnonzero(found.labels_ == cluster)
        if len(members):
            chosen.append(members[far[members].argmin()])
    return np.array(chosen, np.int64)


def margins(probabilities: Reals) -> Reals:
    """Return by how much the likeliest class is likelier than the second, 0..1 `[...]`."""
    two = np.partition(probabilities, -2, axis=-1)[..., -2:]
    return np.asarray(two[..., 1] - two[..., 0])


def frame_of(
    embedding: Embedding, rows: Ints, columns: Ints, guesses: Sequence[str]
) -> geopandas.GeoDataFrame:
    """Return suggested places as points: rank, the class that the decoder guesses, lon and lat.

    Args:
        embedding: of the scene.
        rows: of the patches.
        columns: of the patches.
        guesses: names of classes; empty where there is no decoder.
    """
    lon, lat = embedding.centers(rows, columns)
    table: dict[str, npt.NDArray[np.generic] | pandas.Series] = {
        "rank": np.arange(1, len(rows) + 1),
        "guess": pandas.Series(list(guesses) or [""] * len(rows), dtype="str"),
        "lon": lon,
        "lat": lat,
    }
    crs = None if embedding.crs is None else WGS84.to_wkt()
    return geopandas.GeoDataFrame(
        table, geometry=geopandas.GeoSeries(shapely.points(lon, lat), crs=crs)
    )
