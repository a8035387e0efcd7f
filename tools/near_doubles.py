"""python tools/near_doubles.py STORE FOLDER...: images of a store that folders show too.

What a backbone is tested on must not be among what it learned from, not even turned, mirrored or
compressed anew. Compares grey thumbnails of 24 x 24 px by their correlation, in all 8 symmetries;
images larger than the store's chips are compared by squares of 256 px. Featureless images (calm
water, sand) are alike without being doubles: look at what is printed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cgeartheye.data import images_below
from cgeartheye.pretraining.store.reader import Store

SIDE = 24
SQUARE = 256  # pixels
LEAST_CONTRAST = 40.0  # norm of a thumbnail; below it, thumbnails cannot be compared


def thumbnail(image: Image.Image) -> np.ndarray:
    """Return a vector of length 1, or 0 where there is nothing to see."""
    pixels = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    pixels = pixels - pixels.mean()
    norm = np.linalg.norm(pixels)
    return pixels.ravel() / norm if norm > LEAST_CONTRAST else np.zeros(SIDE**2, np.float32)


def squares(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the parts of an image that are compared."""
    if max(image.size) <= 1.2 * SQUARE:
        yield image
        return
    for top in range(0, image.height - SQUARE + 1, SQUARE // 2):
        for left in range(0, image.width - SQUARE + 1, SQUARE // 2):
            yield image.crop((left, top, left + SQUARE, top + SQUARE))


def symmetries(vector: np.ndarray) -> np.ndarray:
    """Return all turned and mirrored ones, `[8, D]`."""
    square = vector.reshape(SIDE, SIDE)
    return np.stack([np.rot90(s, k).ravel() for s in (square, square.T) for k in range(4)])


def main() -> None:
    """Print pairs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--least", type=float, default=0.99, help="correlation that is printed")
    given = parser.parse_args()
    store = Store(given.store)
    known = np.stack(
        [
            thumbnail(Image.fromarray(store.decode(index).permute(1, 2, 0).numpy()))
            for index in range(len(store))
        ]
    )
    for folder in given.folders:
        found = 0
        for path in images_below(folder):
            best, index = 0.0, 0
            with Image.open(path) as image:
                for part in squares(image):
                    likeness = (known @ symmetries(thumbnail(part)).T).max(axis=1)
                    if likeness.max() > best:
                        best, index = float(likeness.max()), int(likeness.argmax())
            if best >= given.least:
                found += 1
                print(f"{best:.4f}  {path}  {store.name(index)}")
        print(f"{folder}: {found} images have a double in {given.store}")


if __name__ == "__main__":
    main()
