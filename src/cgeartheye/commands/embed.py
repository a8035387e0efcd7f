"""Embeddings of whole scenes: a backbone's vectors on the map."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgeartheye.config import Backbone, section
from cgeartheye.data.transforms.image import Normalize
from cgeartheye.mapping.options import Options
from cgeartheye.mapping.run import map_scene
from cgeartheye.models import backbone as networks
from cgeartheye.models.backbone.named import name_and_file
from cgeartheye.tasks.base import frozen_precision, on_grid
from cgeartheye.training.distributed import local_device
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError

LEVELS, DTYPES = ("patch", "cell"), ("int8", "float16")

WINDOW = 280
"""Pixels a side of what the backbone sees at a time, if nothing else is asked for."""


class SceneEncoder:
    """A frozen backbone as `mapping` knows it."""

    classes: Sequence[str] = ()

    def __init__(
        self,
        built: networks.BackboneBundle,
        device: torch.device,
        level: str,
        window: int,
        num_components: int,
        dtype: str,
    ):
        """Take a backbone.

        Args:
            built: the network with its weights.
            device: to compute on.
            level: whether each patch has a vector, or each window.
            window: pixels a side.
            num_components: that are kept of a patch's vector; 0: all.
            dtype: int8 or float16.

        Raises:
            UserError: more components than the network has channels.
        """
        self._network = built.module.to(device).eval()
        self._normalize = Normalize(built.normalization.mean, built.normalization.std)
        self.window, self.gsd, self.device = window, built.gsd, device
        self._level = level
        self.patch_size = built.module.patch_size if level == "patch" else window
        self.embed_dim: int = built.module.embed_dim
        if num_components > self.embed_dim:
            raise UserError(
                f"--components {num_components} is more than the backbone's {self.embed_dim} "
                "channels: ask for fewer, or for all of them with 0"
            )
        self.num_components, self.dtype = num_components or self.embed_dim, dtype

    def predict(self, images: Tensor) -> Tensor:
        """See `mapping.Encoder`."""
        layers = [self._network.depth - 1] if self._level == "patch" else None
        with torch.inference_mode(), frozen_precision(self.device, frozen=True):
            token, maps = self._network(self._normalize(images), layers=layers)
        side = self.window // self.patch_size
        found: Tensor = on_grid(maps[0], (side, side), self.embed_dim) if maps else token
        return found.float()


OVERLAP = 1 / 6
"""Share of a window that its neighbor covers too: vectors are compared over the whole scene, so
more than in maps those of a window's edge, which see less around them, are averaged with others."""


def embed_scenes(
    scenes: Sequence[Path],
    out: Path,
    backbone: str | PathLike[str] = "tiny",
    level: str = "patch",
    options: dict[str, Any] | None = None,
    weights: Path | None = None,
    window: int = WINDOW,
    num_components: int = 64,
    dtype: str = "int8",
    device: str = "auto",
    resume: bool = False,
) -> list[Path]:
    """Encode scenes with a frozen backbone; see `mapping.run.map_scene`.

    Args:
        scenes: each has an embedding of its own; a folder of rasters is one mosaic.
        out: a folder, in which each scene gets one by its name.
        backbone: what `create_backbone` takes.
        level: a vector for each patch, or for each window (cell), windows being side by side.
        options: fields of `mapping.Options` that are set; `overlap` is else `OVERLAP`.
        weights: of the backbone, where its name is none of a file.
        window: pixels a side of what the backbone sees at a time.
        num_components: principal components of a patch's vector that are kept; 0: all.
        dtype: of those, int8 or float16.
        device: to compute on.
        resume: go on with what is unfinished, and leave out what is finished.

    Returns:
        The folders of the embeddings.

    Raises:
        UserError: two scenes of one name, an unknown level or type, no weights, no zarr, or see
            `map_scene`.
    """
    for option, given, choices in (("level", level, LEVELS), ("dtype", dtype, DTYPES)):
        if given not in choices:
            raise UserError(f"--{option} {given} is unknown: give {' or '.join(choices)}")
    if level == "patch" and find_spec("zarr") is None:
        raise UserError(
            "embeddings of patches are kept with zarr: pip install 'cgeartheye[search]'"
        )
    # `..` is no name of a folder: an embedding called so would be outside of `out`.
    paths = [Path(os.path.abspath(scene)) for scene in scenes]
    names = [path.stem if path.suffix else path.name for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two scenes are called {name}, and so would be their embeddings: embed them into "
                "folders of their own, or name one folder for both as a mosaic"
            )
    name, file = name_and_file(backbone, weights)
    config = section(Backbone, {"name": name, "weights": file})
    if networks.weights_file(config) is None:
        raise UserError(
            f"no weights of '{name}' ship with cgeartheye: name a file with --weights, since "
            "features of random ones mean nothing"
        )
    built = networks.build(config, window)
    encoder = SceneEncoder(built, local_device(device), level, window, num_components, dtype)
    model = {
        "name": name,
        "backbone": built.fingerprint,
        "level": level,
        "components": encoder.num_components if level == "patch" else None,
        "dtype": dtype if level == "patch" else "float32",
    }
    asked = Options(**{"overlap": OVERLAP, **(options or {})})
    folders = [out / name for name in names]
    for number, (scene, folder) in enumerate(zip(scenes, folders, strict=True), 1):
        if len(scenes) > 1:
            log_info(f"scene {number} of {len(scenes)}: {scene}")
        map_scene(encoder, [scene], folder, model, asked, resume=resume)
    return folders
