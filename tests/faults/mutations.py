"""Ways in which a file is damaged: bytes, ends, values and lines that are others."""

import re

import numpy as np

VALUES = ("-1", "0", "0.5", "1e999", "NaN", "null", "true", '"x"', "[]", "{}", "9" * 400)
STRINGS = ("", "\\ud800", "../../elsewhere", "=1+1", "a" * 5_000, "é\\u0000")
TEXT = (".json", ".jsonl", ".yaml", ".csv", ".xml", ".txt", ".geojson")
HEAD = 400
"""Bytes in which most changes of binary files fall: sizes and offsets are there."""


def mutate(content: bytes, suffix: str, random: np.random.Generator) -> bytes:
    """Return a damaged copy of a file's content.

    Args:
        content: a valid file.
        suffix: its ending; that of a text lets values and lines be exchanged too.
        random: which damage it is.
    """
    ways = [_other_bytes, _other_bytes, _cut, _zeros]
    if suffix in TEXT:
        ways += [_other_value, _other_value, _other_string, _line_less, _line_twice]
    return ways[random.integers(len(ways))](content, random)


def _other_bytes(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(random.integers(1, 5)):
        end = min(len(changed), HEAD) if random.random() < 0.67 else len(changed)
        changed[random.integers(end)] = random.choice([0, 1, 0x39, 0x7F, 0xFF, 0x80])
    return bytes(changed)


def _cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content))]


def _zeros(content: bytes, random: np.random.Generator) -> bytes:
    """As a disk leaves a block that was promised and never written."""
    start = random.integers(len(content))
    return content[:start] + bytes(len(content) - start)


def _other_value(content: bytes, random: np.random.Generator) -> bytes:
    return _replace(rb"-?\d+(\.\d+)?", str(random.choice(VALUES)), content, random)


def _other_string(content: bytes, random: np.random.Generator) -> bytes:
    return _replace(rb"[A-Za-z_]{2,}", str(random.choice(STRINGS)), content, random)


def _line_less(content: bytes, random: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[random.integers(len(lines))]
    return b"".join(lines)


def _line_twice(content: bytes, random: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    number = random.integers(len(lines))
    return b"".join([*lines[: number + 1], *lines[number:]])


def _replace(pattern: bytes, value: str, content: bytes, random: np.random.Generator) -> bytes:
    """Put a value in the place of one of the matches."""
    found = list(re.finditer(pattern, content))
    if not found:
        return content[1:]
    match = found[random.integers(len(found))]
    return content[: match.start()] + value.encode() + content[match.end() :]
