"""The published sizes of the backbone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The shape of a vision transformer.

    Attributes:
        width: channels of a token.
        depth: layers.
        heads: of the attention.
        hidden: channels inside the MLP; with SwiGLU, of each of its two halves.
        swiglu: SwiGLU (Shazeer 2020) in place of a GELU MLP.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    swiglu: bool = False


SIZES = {
    "tiny": Size(width=192, depth=12, heads=3, hidden=768),
    "small": Size(width=384, depth=12, heads=6, hidden=1536),
    "base": Size(width=768, depth=12, heads=12, hidden=3072),
    "large": Size(width=1024, depth=24, heads=16, hidden=4096),
    "huge": Size(width=1280, depth=32, heads=16, hidden=5120),
    # Published as 6144: SwiGLU keeps two thirds of that, in multiples of 8.
    "giant": Size(width=1536, depth=40, heads=24, hidden=4096, swiglu=True),
}


def size_name(width: int, depth: int) -> str | None:
    """Return the name of the published size with this width and depth, if there is one."""
    return next((n for n, s in SIZES.items() if (s.width, s.depth) == (width, depth)), None)
