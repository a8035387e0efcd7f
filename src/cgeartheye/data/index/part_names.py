"""Names of the parts of a data set in common use."""

from collections.abc import Callable, Iterator

_OTHERS = {
    "train": ("Train", "TRAIN", "trainval", "Trainval", "training", "Training"),
    "val": ("Val", "VAL", "valid", "Valid", "validation", "Validation", "test", "Test"),
}
"""The likeliest first."""


def names_of(part: str, kind: str) -> Iterator[str]:
    """Yield the name of a part and what others call it.

    Args:
        part: as the config has it; only `train` and `val`, the names by default, have others.
        kind: train or val.
    """
    yield part
    if part == kind:
        yield from _OTHERS[kind]


def other_name(part: str, kind: str, is_there: Callable[[str], bool]) -> str:
    """Return the name of a part under which it is there; none is: the one that was given.

    Args:
        part: as the config has it.
        kind: train or val.
        is_there: whether a name exists.
    """
    return next(filter(is_there, names_of(part, kind)), part)
