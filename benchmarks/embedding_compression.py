"""What a class token, or the mean of an image's patches, loses by what an embedding keeps of it.

    python benchmarks/embedding_compression.py DATA/UCMerced DATA/AID-150 [--per-class 40]

Images, of UC Merced (21 classes, 0.3 m) and AID (30 classes), are encoded by `tiny` once. Then the
vectors are kept in full (float32), as principal components in float32 and as those in int8, which
is what `cgeartheye embed` keeps; components and scales are found on the first half of the images
without their classes. Retrieval: the share of an image's 5 nearest in the other half that are of
its class. Probe: logistic regression on the first half, tested on the second.
"""

import argparse
import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import cgeartheye as cge
from cgeartheye.mapping.projection import fit_projection, project
from cgeartheye.metrics.probes import linear_probe

KEPT = ((None, "float32"), (64, "float16"), (64, "int8"), (32, "int8"), (16, "int8"))
NEAREST = 5


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="with a folder of images a class")
    parser.add_argument("--per-class", type=int, default=40, help="images")
    given = parser.parse_args()
    title = f"tiny, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    columns = "data", "vector", "kept", "bytes", "smaller", f"retrieval@{NEAREST} %", "probe %"
    table = Table(*columns, title=title)
    for folder in given.folders:
        tokens, labels = encode(folder, given.per_class)
        for vector, features in tokens.items():
            for count, dtype in KEPT:
                kept, size = compress(features, count, dtype)
                first, second = slice(0, None, 2), slice(1, None, 2)
                found = retrieval(kept[first], labels[first], kept[second], labels[second])
                probe = linear_probe(kept[first], labels[first]).predict(kept[second])
                right = 100 * float((probe == labels[second]).mean())
                smaller = f"{4 * features.shape[1] / size:.0f}x"
                how = f"{count or features.shape[1]} {dtype}"
                table.add_row(
                    folder.name, vector, how, str(size), smaller, f"{found:.2f}", f"{right:.2f}"
                )
    Console().print(table)


def encode(folder: Path, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return vectors `[N, C]` by name, and classes `[N]`; halves alternate within each class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    images = [path for each in classes for path in sorted(each.iterdir())[:count]]
    labels = [n for n, each in enumerate(classes) for _ in sorted(each.iterdir())[:count]]
    backbone = cge.create_backbone("tiny")
    features = cge.extract_features(backbone, images, image_size=224, progress=False)
    patches = features.maps[0].mean((2, 3)).numpy()
    return {"class token": features.cls.numpy(), "mean patch": patches}, np.array(labels)


def compress(features: np.ndarray, count: int | None, dtype: str) -> tuple[np.ndarray, int]:
    """Return vectors as they are read back, and the bytes of each."""
    width = features.shape[1]
    if count is None:
        return features - features[::2].mean(0), 4 * width
    how = SimpleNamespace(embed_dim=width, num_components=min(count, width), dtype=dtype)
    made = fit_projection(torch.from_numpy(features[::2]), how)  # type: ignore[arg-type]
    values = project(torch.from_numpy(features)[:, :, None, None], made)[:, :, 0, 0]
    if dtype == "int8":
        kept = values.round().clamp(-127, 127).numpy() * made.scale
        return kept, how.num_components
    return values.half().float().numpy(), 2 * how.num_components


def retrieval(bank: np.ndarray, labels: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the nearest by cosine that are of the class, in percent."""
    bank, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, asked))
    nearest = np.argsort(-(asked @ bank.T), axis=1)[:, :NEAREST]
    return 100 * float((labels[nearest] == truth[:, None]).mean())


if __name__ == "__main__":
    main()
