"""Features of chips by actors of Ray, for the curation of a pre-training set.

Each actor builds the same backbone and encodes shards into the folder that all machines share.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cgeartheye.config import Curation
from cgeartheye.jlssd.curation.curate import open_pool
from cgeartheye.jlssd.curation.embeddings import Shard, ShardEncoder, Spread
from cgeartheye.scale.actors import connected
from cgeartheye.training.distributed import local_device


class ChipEncoder:
    """Encodes shards of the chips of one table."""

    def __init__(self, chips: Path, config: Curation, seed: int, workers: int):
        """Read the table and build the backbone; see `curate`."""
        pool = open_pool(chips, config, seed)
        device = local_device(config.device)
        self._encoder = ShardEncoder(pool.paths, pool.built, config, workers, device)

    def encode(self, shard: Shard) -> int:
        """Encode a shard; return the number of its chips."""
        self._encoder.encode(shard)
        return shard[2] - shard[1]


def encode_on_cluster(
    address: str, chips: Path, config: Curation, seed: int, workers: int
) -> Spread:
    """Return what encodes shards on a cluster, to the bytes of one process.

    Args:
        address: of a Ray cluster, or `local`.
        chips: the table; like all paths, it must be there on each machine.
        config: of the curation.
        seed: of random weights.
        workers: processes of each actor that read.

    Returns:
        A function for `curate`, which raises what `actors.connected` and `Cluster.work` do.
    """

    def spread(shards: Sequence[Shard]) -> Iterator[int]:
        if not shards:
            return
        with connected(address) as cluster:
            on_gpu = local_device(config.device).type == "cuda"
            count = min(len(shards), cluster.count(None, on_gpu))
            given = chips.resolve(), config, seed, workers
            yield from cluster.work(ChipEncoder, given, "encode", shards, count, on_gpu)

    return spread
