"""Names of backbones: a size, a model of timm, or a weights file."""

from os import PathLike
from pathlib import Path

from cgeartheye.models.backbone.checkpoint_io import read_weights
from cgeartheye.models.backbone.variants import SIZES, size_name
from cgeartheye.utils.errors import UserError, nearest

_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


def name_and_file(
    name: str | PathLike[str], weights: str | PathLike[str] | None
) -> tuple[str, Path | None]:
    """Return the name of the network, and the weights file if one is named.

    Args:
        name: of a size, `timm/<model>`, or a weights file, whose tensors show the size.
        weights: a weights file beside the name of a size.

    Raises:
        UserError: it is neither, or two files are named, or the file fits no size.
    """
    text = str(name)
    if text in SIZES or text.startswith("timm/"):
        return text, None if weights is None else Path(weights)
    path = Path(name)
    if path.suffix not in _ENDINGS and not path.is_file():
        choices = ", ".join(SIZES)
        raise UserError(
            f"'{text}' is none of {choices}, no timm/<model> and no weights file"
            f"{nearest(text, list(SIZES))}"
        )
    if weights is not None:
        raise UserError(f"{path} and {weights} are both weights files: name one")
    read = read_weights(path)
    size = size_name(read.width, read.depth)
    if size is None:
        raise UserError(
            f"{path} holds a vision transformer of {read.depth} layers and {read.width} channels, "
            f"which is none of {', '.join(SIZES)}"
        )
    return size, path
