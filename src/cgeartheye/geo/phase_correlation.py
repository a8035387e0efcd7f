"""Displacement of two images of the same ground against each other."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

TRUSTED = 0.5  # confidence from which a shift is believed

_BLUR = 0.2  # cycles a pixel at which a frequency weighs 0.6; finer ones are noise and aliases
_STEPS = 32  # parts of a pixel

Array = npt.NDArray[Any]


class Shift(NamedTuple):
    """Displacement of the content of the second image from that of the first.

    Attributes:
        rows: pixels further down.
        columns: pixels further right.
        confidence: 0..1; 0 where the peak is no higher than noise makes it, 0.5 where it is twice
            as high; see `TRUSTED`.
    """

    rows: float
    columns: float
    confidence: float


def phase_shift(before: Array, after: Array) -> Shift:
    """Measure the shift between two images, to a 32nd of a pixel.

    Phase correlation (Kuglin and Hines 1975) of gradient magnitudes, which differ less between
    seasons than grey values do; then the same correlation on a finer grid around its peak by a
    matrix-multiply DFT (Guizar-Sicairos et al. 2008).

    Args:
        before: grey values of any scale, float `[H, W]`; or `[N, H, W]` of N places that share
            one shift, which is then found where hardly any of them shows it alone.
        after: the same of another date.
    """
    height, width = before.shape[-2:]
    assert after.shape == before.shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    blur = np.exp(-(rows**2 + columns**2) / (2 * _BLUR**2))
    cross = np.zeros((height, width), complex)
    for pair in zip(*(x.reshape(-1, height, width) for x in (before, after)), strict=True):
        first, second = (np.fft.fft2(_edges(image)) for image in pair)
        phases = second * first.conj()
        size = np.abs(phases)
        weight = blur * (size > 1e-9 * size.max())
        cross += phases * weight / np.where(weight > 0, size, 1)
    correlation = np.fft.ifft2(cross).real
    if not correlation.any():
        return Shift(0.0, 0.0, 0.0)
    peak = np.unravel_index(correlation.argmax(), correlation.shape)
    middle = [
        int(place) - length * (place > length // 2)
        for place, length in zip(peak, correlation.shape, strict=True)
    ]
    steps = np.arange(-_STEPS, _STEPS + 1) / _STEPS
    fine_rows = np.exp(2j * np.pi * (middle[0] + steps)[:, None] * rows.T)
    fine_columns = np.exp(2j * np.pi * columns.T * (middle[1] + steps)[None])
    fine = (fine_rows @ cross @ fine_columns).real
    row, column = np.unravel_index(fine.argmax(), fine.shape)
    # As high is the highest of as many normal numbers as there are pixels.
    noise = correlation.size * correlation.std() * np.sqrt(2 * np.log(correlation.size))
    confidence = max(0.0, 1 - noise / fine[row, column])
    shift = middle[0] + steps[row], middle[1] + steps[column]
    return Shift(float(shift[0]), float(shift[1]), float(confidence))


def _edges(image: Array) -> Array:
    """Gradient magnitudes that fade towards the border, which would correlate with itself."""
    down, across = np.gradient(image.astype(np.float64))
    edges = np.hypot(down, across)
    height, width = image.shape
    fade = np.outer(np.hanning(height), np.hanning(width))
    return np.asarray((edges - edges.mean()) * fade)
