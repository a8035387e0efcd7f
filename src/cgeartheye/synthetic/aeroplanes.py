"""Drawing of aeroplanes: swept wings, engines, tailplane, fuselage and fin."""

import numpy as np
import numpy.typing as npt

from cgeartheye.synthetic.ground import Ground, Reals, coverage
from cgeartheye.synthetic.shapes import Boxes, pixels_of

_WHITE = np.array((238, 239, 240), np.float32)
_METAL = np.array((196, 200, 204), np.float32)  # of the wings
_GLASS = np.array((58, 64, 72), np.float32)


def draw_aeroplanes(
    ground: Ground, boxes: Boxes, livery: Reals, height: float, engines_aft: bool
) -> None:
    """Draw aeroplanes that touch all four sides of their boxes and nothing beyond them.

    Args:
        ground: is painted on, and raised so that the aeroplanes throw shadows.
        boxes: heading along the fuselage, from nose to tail and from wing tip to wing tip.
        livery: `[N, 3]`, the color of fin and engines; the fuselage has a breath of it.
        height: metres, of the fuselage's top.
        engines_aft: they sit on both sides of the tail, and not below the wings.
    """
    pixels = pixels_of(boxes, ground.size, 0.5)
    a, b = boxes.half[pixels.box].T.astype(np.float32)
    whole = coverage(pixels, boxes)
    u, out = pixels.u, np.abs(pixels.v)
    color = livery[pixels.box]

    def lay(share: Reals, paint: npt.ArrayLike, top: float, slope: Reals | float = 0.0) -> None:
        share = np.clip(share, 0, 1) * whole
        seen = share > 0
        paint = np.broadcast_to(np.asarray(paint, np.float32), (len(seen), 3))
        ground.blend(pixels.index[seen], paint[seen], share[seen])
        solid = share > 0.5
        fall = np.broadcast_to(slope, len(solid))[solid]
        angle = boxes.angle[pixels.box[solid]]
        ground.raise_to(pixels.select(solid), np.full(len(fall), top), 0.0, fall, angle)

    # Shares of half the length and of half the span: front and rear at the root and at the tip.
    wing = _swept(u, out, 0.26 * a, -0.14 * a, -0.12 * a, -0.24 * a, b)
    tail = _swept(u, out, -0.70 * a, -0.86 * a, -0.90 * a, -a, 0.36 * b)
    round_ = np.maximum(0.115 * b, 1.1)  # half the fuselage's width
    aft, apart = (-0.55 * a, round_ + 0.06 * b) if engines_aft else (0.10 * a, 0.34 * b)
    engine = np.minimum(0.13 * a - np.abs(u - aft), 0.055 * b + 0.3 - np.abs(out - apart)) + 0.5
    if engines_aft:
        lay(wing, _METAL, 0.4 * height)
        lay(tail, _METAL, 1.1 * height)
        lay(engine, 0.5 * _METAL + 0.5 * color, 0.9 * height)
    else:
        lay(engine, 0.4 * _METAL + 0.6 * color, 0.4 * height)
        lay(wing, _METAL, 0.5 * height)
        lay(tail, _METAL, height)
    # A blunt nose, and a cone that ends in the tail's tip.
    nose = np.sqrt(np.clip((a - u) / (3.2 * round_), 0, 1))
    cone = np.clip(0.25 + (u + a) / (0.62 * a), 0, 1)
    hull = round_ * np.minimum(nose, cone)
    body = 0.86 * _WHITE + 0.14 * color
    windscreen = np.abs((a - u) / round_ - 1.3) < 0.45
    body = np.where(windscreen[:, None], 0.5 * (body + _GLASS), body)
    lay(hull - out + 0.5, body, height, -0.4 * pixels.v / round_)
    fin = np.minimum(0.17 * a - np.abs(u + 0.81 * a) + 0.5, 0.6 - out + 0.02 * b)
    lay(fin, color, 1.8 * height)


def _swept(
    u: Reals,
    out: Reals,
    front: Reals,
    rear: Reals,
    front_tip: Reals,
    rear_tip: Reals,
    tip: Reals,
) -> Reals:
    """Return about the share of each pixel that wings cover: 0 from half a pixel outside.

    Args:
        u: `[P]` pixels along the heading.
        out: `[P]` pixels from the middle to either side.
        front: `[P]` where the leading edge leaves the middle.
        rear: `[P]` where the trailing edge does.
        front_tip: `[P]` where the leading edge ends.
        rear_tip: `[P]` where the trailing edge ends.
        tip: `[P]` pixels from the middle to the tip.
    """
    share = out / tip
    lean, trail = (front - front_tip) / tip, (rear - rear_tip) / tip
    ahead = (front - share * (front - front_tip) - u) / np.sqrt(1 + lean**2)
    behind = (u - rear + share * (rear - rear_tip)) / np.sqrt(1 + trail**2)
    inside = np.minimum(ahead, behind) + 0.5
    return np.asarray(np.clip(inside, 0, 1) * np.clip(tip - out + 0.5, 0, 1), np.float32)
