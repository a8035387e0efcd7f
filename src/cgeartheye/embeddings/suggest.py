"""Places to label next: those of which the decoder is not sure, and that differ from each other."""

from collections.abc import Sequence

import geopandas
import numpy as np
import numpy.typing as npt
import pandas
import shapely
from sklearn.cluster import kmeans_plusplus

from cgeartheye.embeddings.decoder import Decoder
from cgeartheye.embeddings.labels import LabelledPatches
from cgeartheye.embeddings.store import Embedding, Ints, Reals
from cgeartheye.geo.crs import WGS84

_CANDIDATES = 2000
_SHARE = 0.05  # of the patches that are candidates, those of least margin, or as many as above


def suggest(
    embedding: Embedding,
    decoder: Decoder | None,
    patches: LabelledPatches | None,
    count: int,
    seed: int = 0,
) -> tuple[Ints, Ints]:
    """Choose patches to label next.

    Of the patches with the smallest margins between their two likeliest classes, each next one is
    that whose doubt times distance to the nearest labelled or chosen one is largest (uncertainty:
    Scheffer et al. 2001; diversity: greedy k-centers, Sener and Savarese 2018). Without a decoder
    they are spread over the features (k-means++, Arthur and Vassilvitskii 2007).

    Args:
        embedding: of the scene.
        decoder: fitted to `patches`; none: nothing is labelled yet.
        patches: that are labelled.
        count: patches wanted.
        seed: of what is drawn at random.

    Returns:
        Rows and columns, the most useful first.
    """
    rows, columns = np.nonzero(embedding.valid)
    taken = np.zeros(embedding.shape, bool)
    if patches is not None:
        taken[patches.rows, patches.columns] = True
    free = ~taken[rows, columns]
    rows, columns = rows[free], columns[free]
    random = np.random.default_rng(seed)
    if decoder is None or patches is None:
        some = random.permutation(len(rows))[: 10 * _CANDIDATES]
        x_ND = embedding.components(rows[some], columns[some])
        picked = kmeans_plusplus(x_ND, min(count, len(some)), random_state=seed)[1]
        return rows[some[picked]], columns[some[picked]]
    sure = margins(decoder.decode(embedding))[rows, columns]
    few = min(_CANDIDATES, max(10 * count, round(_SHARE * len(sure))))
    least = np.argsort(sure, kind="stable")[:few]
    rows, columns, doubt = rows[least], columns[least], 1 - sure[least]
    x_ND = embedding.components(rows, columns)
    known = embedding.components(patches.rows, patches.columns)
    chosen = _spread(x_ND, doubt, known, min(count, len(rows)))
    return rows[chosen], columns[chosen]


def margins(probabilities: Reals) -> Reals:
    """Return by how much the likeliest class is likelier than the second, 0..1 `[...]`."""
    two = np.partition(probabilities, -2, axis=-1)[..., -2:]
    return np.asarray(two[..., 1] - two[..., 0])


def _spread(x_ND: Reals, doubt: Reals, known: Reals, count: int) -> Ints:
    nearest = np.full(len(x_ND), np.inf)
    for other in known[:: max(1, len(known) // 500)]:
        nearest = np.minimum(nearest, ((x_ND - other) ** 2).sum(-1))
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(np.argmax(doubt * np.sqrt(nearest))))
        nearest = np.minimum(nearest, ((x_ND - x_ND[chosen[-1]]) ** 2).sum(-1))
    return np.array(chosen, np.int64)


def frame_of(
    embedding: Embedding, rows: Ints, columns: Ints, guesses: Sequence[str]
) -> geopandas.GeoDataFrame:
    """Return suggested places as points: rank, the class that the decoder guesses, lon and lat.

    Args:
        embedding: of the scene.
        rows: of the patches.
        columns: likewise.
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
