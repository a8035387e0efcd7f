"""Features of images: class tokens and feature maps."""

import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from cgeartheye.api.backbones import Backbone, create_backbone
from cgeartheye.api.images import Images, as_inputs
from cgeartheye.api.isolation import own_random_state
from cgeartheye.api.notebook import SHOWN, Pixels, gallery, show_pictures
from cgeartheye.data.arrays import Stretch
from cgeartheye.tasks.inputs import Input, load_image
from cgeartheye.training.distributed import local_device
from cgeartheye.training.loaders import FileSource
from cgeartheye.training.samplers import test_order
from cgeartheye.training.trainer import autocast
from cgeartheye.utils.console import bar, muted
from cgeartheye.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of one image.

    Attributes:
        name: path of the image below the folder that was given, its file's name, or a number.
        cls: class token `[C]`, float32 on the CPU.
        maps: for each layer a feature map `[C, h, w]`.
    """

    name: str
    cls: Tensor
    maps: tuple[Tensor, ...]


class Features(Sequence[ImageFeatures]):
    """Features of images, in order; a notebook shows their last maps in colors."""

    def __init__(self, images: Sequence[ImageFeatures]) -> None:
        self._images = list(images)

    @property
    def cls(self) -> Tensor:
        """Class tokens `[N, C]`."""
        return torch.stack([image.cls for image in self._images])

    @property
    def maps(self) -> list[Tensor]:
        """For each layer the maps `[N, C, h, w]` of all images.

        Raises:
            UserError: the images, and so their maps, differ in size.
        """
        if len({tuple(one.shape for one in image.maps) for image in self._images}) > 1:
            raise UserError(
                "the images differ in size, so their maps cannot be stacked: give image_size, or "
                "take features[i].maps"
            )
        layers = zip(*(image.maps for image in self._images), strict=True)
        return [torch.stack(maps) for maps in layers]

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return [image.name for image in self._images]

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> ImageFeatures: ...
    @overload
    def __getitem__(self, index: slice) -> "Features": ...
    def __getitem__(self, index: int | slice) -> "ImageFeatures | Features":
        """Return the features of one image, or of some."""
        found = self._images[index]
        return Features(found) if isinstance(found, list) else found

    def __repr__(self) -> str:
        layers = f", maps of {len(self._images[0].maps)} layers"
        return f"<Features of {len(self)} images: cls {tuple(self.cls.shape)}{layers}>"

    def plot(self, max_images: int = SHOWN) -> "list[Axes]":
        """Draw the last maps, their three principal components as red, green and blue.

        Args:
            max_images: to draw at most.

        Returns:
            Matplotlib's axes of each image, in a new figure.

        Raises:
            UserError: there are no maps.
        """
        shown = self[:max_images]
        if not shown[0].maps:
            raise UserError("no maps were extracted: name layers, such as layers=[-1]")
        return show_pictures(list(zip(shown._colors(), shown.names, strict=True)))

    def _repr_html_(self) -> str:
        some = self[:SHOWN]
        pictures = zip(some._colors(), some.names, strict=True) if self[0].maps else ()
        return f"<p>{html.escape(repr(self))}</p>{gallery(pictures)}"

    def _colors(self) -> list[Pixels]:
        """Colors `[h, w, 3]` of the last maps: what is alike has one color in all images."""
        maps = [image.maps[-1] for image in self._images]
        tokens = torch.cat([one.flatten(1).T for one in maps])
        tokens = tokens - tokens.mean(0)
        basis = torch.linalg.eigh(tokens.T @ tokens)[1][:, -3:].flip(1)
        basis = basis * torch.where(basis.sum(0) < 0, -1.0, 1.0)  # their sign is arbitrary
        parts = (tokens @ basis).numpy()
        low, high = np.percentile(parts, (2, 98), axis=0)
        scaled = (parts - low) / np.maximum(high - low, 1e-9)
        colors = (scaled.clip(0, 1) * 255).astype(np.uint8)
        ends = np.cumsum([one.shape[1] * one.shape[2] for one in maps])[:-1]
        return [
            color.reshape(*one.shape[1:], 3)
            for color, one in zip(np.split(colors, ends), maps, strict=True)
        ]


def extract_features(
    backbone: Backbone | str | PathLike[str],
    images: Images,
    *,
    layers: Sequence[int] = (-1,),
    image_size: int | None = None,
    bands: tuple[int, int, int] = (1, 2, 3),
    stretch: Stretch = None,
    batch_size: int = 32,
    workers: int = 0,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    progress: bool = True,
) -> Features:
    """Encode images with a backbone: class tokens and feature maps.

    An image is transformed by `backbone.preprocessing.transform(image_size)`.

    Args:
        backbone: made by `create_backbone`, on the device where it is to compute; or what
            `create_backbone` takes, which is then put on the best device there is.
        images: a file (JPEG, PNG, TIFF, BMP), a folder, an array or tensor `[H, W, 3]`,
            `[3, H, W]`, `[H, W]` or of several images `[N, ...]`, an image of Pillow's; or a
            sequence of these. Arrays are uint8 0..255, float 0..1, or of 16 bits, which are
            stretched from the 1st to the 99th percentile of each image, as those of files are.
        layers: whose maps are wanted; -1 is the last. Empty: class tokens alone, which is faster.
        image_size: pixels a side, a multiple of `backbone.patch_size`: the shorter side is resized
            to it and the central square is cut out. None: each image as it is, its sides resized
            to the nearest multiples, so that its GSD stays.
        bands: of files, counted from 1, that are red, green and blue.
        stretch: values that become 0 and 255, of arrays of any type and of files of 16 bits.
        batch_size: images a forward pass.
        workers: processes that read files; 0: this one.
        precision: of matrix products; fp32, bf16 or fp16.
        progress: whether a bar is shown, where there is more than one batch.

    Returns:
        Class tokens and maps, float32 on the CPU.

    Raises:
        UserError: an unreadable image, an array that is no image, or a layer that does not exist.

    Examples:
        >>> import cgeartheye as cge, numpy as np
        >>> backbone = cge.create_backbone("tiny")
        >>> images = np.zeros((2, 56, 56, 3), np.uint8)
        >>> features = cge.extract_features(backbone, images)
        >>> features.cls.shape
        torch.Size([2, 192])
        >>> features.maps[-1].shape
        torch.Size([2, 192, 4, 4])
        >>> cge.extract_features(backbone, "chips/").cls.shape
        torch.Size([16, 192])
    """
    if not isinstance(backbone, Backbone):
        backbone = create_backbone(backbone).to(local_device("auto"))
    inputs = as_inputs(images, stretch)
    samples = _Samples(inputs, backbone.preprocessing.transform(image_size), bands, stretch)
    device = next(backbone.parameters()).device
    found: list[ImageFeatures] = []
    with (
        own_random_state(),
        evaluating(backbone),
        torch.no_grad(),
        muted(not progress or len(inputs) <= batch_size),
        bar("extracting features", len(inputs), "images") as shown,
    ):
        source = FileSource(samples, workers, device, ("image",))
        for batch in source.load(test_order(len(inputs), batch_size, 0, 1)):
            for _, group in groupby(batch["image"], key=lambda image: image.shape):
                with autocast(device, precision):
                    cls, maps = backbone(torch.stack(list(group)), list(layers))
                tensors = [tensor.float().cpu() for tensor in (cls, *maps)]
                for token, *own in zip(*tensors, strict=True):
                    found.append(ImageFeatures(inputs[len(found)].name, token, tuple(own)))
            shown.advance(len(batch["index"]))
    return Features(found)


class _Samples(Dataset[dict[str, Any]]):
    """Images as the backbone sees them."""

    def __init__(
        self,
        inputs: Sequence[Input],
        transform: v2.Compose,
        bands: tuple[int, int, int],
        stretch: Stretch,
    ):
        self._inputs, self._transform = inputs, transform
        self._bands, self._stretch = bands, stretch

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (file,) = self._inputs[index].images
        image = load_image(file, self._bands, self._stretch)
        return {"image": self._transform(image), "index": index}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a block, and each of its parts back as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
