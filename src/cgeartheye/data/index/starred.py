"""Files and folders that fit a pattern of a config."""

import glob
from pathlib import Path


def starred(root: Path, pattern: str) -> list[tuple[list[str], Path]]:
    """Return the files and folders below a root that fit a pattern, and what `*` stood for."""
    found = []
    for place in sorted(glob.glob(pattern, root_dir=root)):
        parts = zip(Path(place).parts, Path(pattern).parts, strict=True)
        found.append(([name for name, part in parts if part == "*"], root / place))
    return found
