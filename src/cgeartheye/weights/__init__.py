"""The weights that ship with the package: `<size>.safetensors`, described in `MODEL_CARD.md`."""

from importlib.resources import files
from pathlib import Path

FOLDER = Path(str(files(__name__)))
CARD = "MODEL_CARD.md"


def shipped(size: str) -> Path | None:
    """Return the file of the weights that ship for a size of the backbone; none: there are none."""
    return {path.stem: path for path in FOLDER.glob("*.safetensors")}.get(size)
