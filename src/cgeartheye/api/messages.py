"""Errors of commands in the words of a call: `--work-dir` is `work_dir=`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from cgeartheye.utils.errors import UserError

_FLAGS = frozenset({"resume", "smooth", "coregister", "probabilities", "tta"})
_OPTION = re.compile(r"(?<!\S)--(?:set |([a-z][a-z-]*)(?: ([A-Z][A-Z:]+)\b)?)")


@contextmanager
def python_words() -> Iterator[None]:
    """Name the arguments of a function in the errors of a block, instead of a command's options.

    Raises:
        UserError: that of the block, with `resume=True` for `--resume`, and so on.
    """
    try:
        yield
    except UserError as error:
        text = _OPTION.sub(_argument, str(error))
        if text == str(error):
            raise
        raise UserError(text) from error


def _argument(option: re.Match[str]) -> str:
    if option[1] is None:  # --set data.batch_size=8
        return ""
    name = option[1].replace("-", "_")
    return f"{name}={'True' if name in _FLAGS else option[2] or ''}"
