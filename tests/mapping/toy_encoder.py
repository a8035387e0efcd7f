"""A backbone in closed form: the mean colors of a patch, turned; run as a program it embeds."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.mapping.options import Options
from cgeartheye.mapping.run import map_scene
from cgeartheye.mapping.sinks import writer

MIX = torch.tensor([[1.0, 0.5, 0.0, 2.0], [0.0, 1.0, -1.0, 0.3], [2.0, 0.0, 0.2, 1.0]]) / 100


class ToyEncoder:
    """Four numbers of the mean color of each patch, or of each window."""

    classes: Sequence[str] = ()
    device = torch.device("cpu")
    embed_dim = 4

    def __init__(
        self,
        patch: int = 7,
        window: int = 28,
        components: int = 4,
        dtype: str = "float16",
        gsd: float | None = None,
    ):
        self.patch_size, self.window, self.gsd = patch, window, gsd
        self.num_components, self.dtype = components, dtype
        self.calls = 0

    def predict(self, images: Tensor) -> Tensor:
        self.calls += 1
        means = F.avg_pool2d(images.float(), self.patch_size)
        features = torch.einsum("bchw,cd->bdhw", means, MIX)
        return features[..., 0, 0] if self.patch_size == self.window else features


class SlowEncoder(ToyEncoder):
    """Leaves the time to be killed."""

    def predict(self, images: Tensor) -> Tensor:
        time.sleep(0.02)
        return super().predict(images)


def run_encoder(scene: Path, out: Path, encoder: ToyEncoder | None = None, **options: Any) -> Any:
    resume = options.pop("resume", False)
    model = {"name": "toy", "backbone": "0" * 64}
    return map_scene(
        encoder or ToyEncoder(), [scene], out, model, Options(**options), resume=resume
    )


def open_vectors(out: Path) -> dict[str, np.ndarray]:
    import zarr

    group = zarr.open_group(out / "features.zarr", mode="r")
    names = ("vectors", "valid", "mean", "basis", "scale")
    return {name: np.asarray(group[name]) for name in names}


def decoded(out: Path) -> np.ndarray:
    """Features `[rows, columns, C]` as they were before their projection."""
    held = open_vectors(out)
    return held["mean"] + (held["vectors"] * held["scale"]) @ held["basis"].T


if __name__ == "__main__":  # SCENE OUT
    torch.set_num_threads(1)
    writer._SECONDS_BETWEEN_NOTES = 0
    encoder = SlowEncoder(dtype="int8", components=3, gsd=0.47)
    run_encoder(Path(sys.argv[1]), Path(sys.argv[2]), encoder, resume=True, batch_size=4)
