"""Quality of the pixels of a chip: seven measures of an image without a reference.

- nodata: share of pixels without data.
- saturated: share of valid pixels with a band at 254 or 255, where sensor or stretch hold no detail
  any more; 254 because JPEG smears what was 255.
- sharpness: 0..1, how much of the steps between neighbours a mean over 9 pixels takes away, in the
  less sharp of the two directions; 1 - blur of Crete et al. 2007, The blur effect. It does not
  depend on contrast, so that still water with the sensor's noise is sharp.
- contrast: standard deviation of the luminance, 0..0.5 of its range; RMS contrast of Peli 1990.
- entropy: of the histogram of the luminance, 0..8 bits; Shannon 1948.
- cloud: share of valid pixels in bright, white, smooth patches wider than 56 pixels; brightness and
  whiteness after Zhu and Woodcock 2012 (Fmask), on pictures without infrared, so that large white
  roofs and white sand count too.
- haze: dark channel of the darkest tenth of the chip, 0..1; He et al. 2011, equation 5, at the dark
  objects of Chavez 1988: haze lightens shadows and water too, bright ground does not.

The luminance is that of ITU-R BT.601, rounded down to 8 bits.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

MEASURES = ("nodata", "saturated", "sharpness", "contrast", "entropy", "cloud", "haze")

SATURATED = 254
BLUR = 9  # pixels of Crete's mean

BLOCK = 8  # pixels a side, over which cloud and haze are judged: what is finer is texture
BRIGHT = 185  # mean of the bands of a cloud's block, at least
WHITE = 0.12  # spread of its bands as a share of the highest, at most
SMOOTH = 18.0  # standard deviation of the blocks around it, at most: clouds have no edges
WIDE = 7  # blocks; a patch that is nowhere so wide is a roof or a road
DARKEST = 0.1  # share of the blocks by which haze is judged

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def measure(pixels: Pixels, valid: Mask) -> dict[str, float]:
    """Measure a chip.

    Args:
        pixels: uint8 `[H, W, 3]`; what is not valid may be anything.
        valid: bool `[H, W]`.

    Returns:
        `MEASURES` by name. Without a valid pixel all but nodata are NaN; a constant chip has
        sharpness 0.
    """
    assert pixels.shape == (*valid.shape, 3), (pixels.shape, valid.shape)
    count = int(valid.sum())
    if not count:
        return dict.fromkeys(MEASURES, math.nan) | {"nodata": 1.0}
    light = luminance(pixels)
    histogram = np.bincount(light[valid], minlength=256)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    saturated = (np.maximum(np.maximum(red, green), blue) >= SATURATED) & valid
    return {
        "nodata": 1 - count / valid.size,
        "saturated": float(saturated.sum()) / count,
        "sharpness": _sharpness(light, valid),
        "contrast": _contrast(histogram),
        "entropy": _entropy(histogram),
        "cloud": _cloud(pixels, light, valid),
        "haze": _haze(np.minimum(np.minimum(red, green), blue), valid),
    }


def luminance(pixels: Pixels) -> Pixels:
    """Return the luminance of pixels uint8 `[H, W, 3]`, uint8 `[H, W]`."""
    red, green, blue = np.moveaxis(pixels, 2, 0).astype(np.uint16)
    # 77, 150 and 29 of 256 are 0.299, 0.587 and 0.114.
    weighted = 77 * red + 150 * green + 29 * blue
    return np.asarray(weighted >> 8, np.uint8)


def _sharpness(light: Pixels, valid: Mask) -> float:
    return min(_sharpness_down(light, valid), _sharpness_down(light.T, valid.T))


def _sharpness_down(light: Pixels, valid: Mask) -> float:
    """Return sum(max(0, |step| - |step of the mean|)) / sum |step| along the first axis.

    The step of a mean over 9 from one pixel to the next is a ninth of the difference between the
    pixel that enters it and the one that leaves it, so that the mean need not be computed.
    """
    before = BLUR // 2
    if len(light) <= BLUR:
        return 0.0
    wide = light.astype(np.int16)
    step = np.abs(wide[before + 1 : -before] - wide[before : -before - 1])
    smooth = np.abs(wide[BLUR:] - wide[:-BLUR])
    lost = np.maximum(BLUR * step - smooth, 0)
    if not valid.all():
        whole = np.lib.stride_tricks.sliding_window_view(valid, BLUR + 1, axis=0).all(-1)
        step, lost = step[whole], lost[whole]
    total = int(step.sum(dtype=np.int64))
    return int(lost.sum(dtype=np.int64)) / (BLUR * total) if total else 0.0


def _contrast(histogram: npt.NDArray[np.intp]) -> float:
    share = histogram / histogram.sum()
    mean = share @ np.arange(256)
    return math.sqrt(share @ (np.arange(256) - mean) ** 2) / 255


def _entropy(histogram: npt.NDArray[np.intp]) -> float:
    share = histogram[histogram > 0] / histogram.sum()
    return float(-(share @ np.log2(share))) + 0.0  # not -0.0


def _cloud(pixels: Pixels, light: Pixels, valid: Mask) -> float:
    color = _means(pixels).astype(np.float32)
    highest = color.max(2)
    white = highest - color.min(2) <= WHITE * highest
    bright = color.mean(2) >= BRIGHT
    known = _share_valid(valid)
    gray = _means(light).astype(np.float32)
    around, squares = ndimage.uniform_filter(gray, 3), ndimage.uniform_filter(gray**2, 3)
    smooth = squares - around**2 <= SMOOTH**2
    pale = white & bright & (known > 0.5)
    # A cloud may go on beyond the edge of the chip.
    core = ndimage.binary_erosion(pale & smooth, _square(WIDE), border_value=1)
    # Its own edges, a block on each side, are not smooth.
    cloud = ndimage.binary_dilation(core, _square(WIDE + 2)) & pale
    return float((cloud * known).sum() / known.sum())


def _square(side: int) -> Mask:
    return np.ones((side, side), bool)


def _haze(darkest: Pixels, valid: Mask) -> float:
    known = _share_valid(valid) > 0.5
    if not known.any():
        return float(np.quantile(darkest[valid], DARKEST)) / 255
    dark = _minima(np.where(valid, darkest, np.uint8(255)))[known]
    return float(np.quantile(dark, DARKEST)) / 255


def _means(pixels: Pixels) -> Pixels:
    """Return the means of blocks; blocks at the edges may be smaller."""
    return np.asarray(Image.fromarray(pixels).reduce(BLOCK))


def _share_valid(valid: Mask) -> npt.NDArray[np.float32]:
    means = _means(valid.astype(np.uint8) * 255)
    return means.astype(np.float32) / np.float32(255)


def _minima(darkest: Pixels) -> Pixels:
    """Return the minima of blocks."""
    high, wide = (-(-side // BLOCK) * BLOCK for side in darkest.shape)
    padded = np.full((high, wide), 255, np.uint8)
    padded[: darkest.shape[0], : darkest.shape[1]] = darkest
    blocks = padded.reshape(high // BLOCK, BLOCK, wide // BLOCK, BLOCK)
    return np.asarray(blocks.min((1, 3)))
