"""Files of safetensors that are the same bytes whenever they hold the same."""

import json
from pathlib import Path


def sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in order, in place; the library writes them in any.

    Args:
        path: of a file that nobody else reads yet.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # The same letters in another order; what follows stays where it is.
        assert len(text) <= length, (len(text), length)
        file.seek(8)
        file.write(text.ljust(length))
