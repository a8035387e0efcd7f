"""Yes or no as annotation files write it: a number, a word, or nothing at all."""

_NO = frozenset({"", "0", "false", "f", "no", "n", "off", "none", "null", "nan", "unspecified"})
_YES = frozenset({"true", "t", "yes", "y", "on", "difficult"})


def flag_of(value: object) -> bool | None:
    """Return whether a flag such as VOC's `difficult` or COCO's `iscrowd` is set.

    Args:
        value: as the file has it. Absent or empty means no, a number other than 0 yes, and words
            are understood in upper and lower case; so `Unspecified` and `0.0` mean no.

    Returns:
        None where it is neither.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    word = str(value).strip().casefold()
    if word in _NO:
        return False
    if word in _YES:
        return True
    try:
        return float(word) != 0
    except ValueError:
        return None
