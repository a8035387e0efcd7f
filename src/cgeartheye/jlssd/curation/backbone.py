"""Which backbone looks at the chips: a config's, or that of a weights file."""

from pathlib import Path

from cgeartheye.config import Jlssd, Network, load
from cgeartheye.models.backbone.checkpoint_io import read_weights
from cgeartheye.models.backbone.variants import SIZES, size_name
from cgeartheye.utils.errors import UserError
from cgeartheye.weights import shipped


def read_network(path: Path) -> Network:
    """Return the backbone that a file, or the name of a size, stands for.

    Args:
        path: a config file (.py, .yaml), whose `backbone` is taken; weights of a published size;
            or such a size, whose weights ship with the package.

    Raises:
        UserError: no such file, no backbone in it, or weights of no published size.
    """
    if path.suffix in {".py", ".yaml", ".yml"}:
        config = load(path)
        network = config.curation.backbone if isinstance(config, Jlssd) else config.backbone
        return Network(**network.model_dump(exclude_unset=True, exclude={"tuning", "lora"}))
    if not path.is_file() and shipped(str(path)):
        return Network(name=str(path))
    weights = read_weights(path)
    name = size_name(weights.width, weights.depth)
    if name is None:
        raise UserError(
            f"{path} has {weights.depth} layers of width {weights.width}, the size of none of "
            f"{', '.join(SIZES)}: name a config file whose backbone it is"
        )
    return Network(name=name, weights=path)
