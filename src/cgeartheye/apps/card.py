"""Card of an application model: what it is, what it sees, and what it is worth.

On the disk a card is a STAC Item with the fields of the Machine Learning Model extension (MLM,
v1.5.2), so that catalogs can index it; what MLM has no field for is named `cgeartheye:...`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cgeartheye import __version__
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json
from cgeartheye.utils.stac import class_objects
from cgeartheye.utils.state import json_object

CARD, THUMBNAIL = "application.json", "thumbnail.jpg"
_SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
_OWN = "cgeartheye:"
_ID = r"[a-z0-9][a-z0-9-]{0,62}"

# Files of models: their media types, and what wrote them in the words of MLM.
ARTIFACTS = {
    "model.safetensors": ("application/vnd.safetensors", "safetensors.torch.save_file"),
    "model.onnx": ("application/octet-stream; application=onnx", "onnx.save"),
    "model.onnx.data": ("application/octet-stream", "onnx.save"),
    "model.xml": ("application/xml", "openvino.save_model"),
    "model.bin": ("application/octet-stream", "openvino.save_model"),
}

_File = Annotated[str, Field(pattern=f"^({'|'.join(map(re.escape, ARTIFACTS))})$")]

Task = Literal[
    "scene_classification", "semantic_segmentation", "change_detection", "object_detection"
]
# MLM's words for the tasks; it has none for change.
_TASKS = {
    "scene_classification": "scene-classification",
    "semantic_segmentation": "semantic-segmentation",
    "change_detection": "semantic-segmentation",
    "object_detection": "object-detection",
}


class Card(BaseModel):
    """Facts of an application model.

    Attributes:
        id: name of its folder and in addresses: lower case, digits and hyphens.
        title: for people.
        description: what it finds, where it works and where it does not.
        license: SPDX identifier, or `other`.
        version: first 12 digits of the SHA-256 of its weights.
        created: UTC, ISO 8601.
        task: that it was trained for.
        classes: names by index.
        colors: of the classes, 0..255.
        dates: images that it sees of a place.
        gsd: m/px that it sees; none: not known, a scene is mapped at its own.
        bands: of a scene, counted from 1, that are red, green and blue.
        stretch: values that become 0 and 255 where a band has more than 8 bits; none: percentiles.
        window: pixels a side that it sees at once.
        mean: of the pixels 0..255, that the network subtracts.
        std: that it divides by.
        backbone: name and tuning.
        parameters: of the whole network.
        weights_bytes: size of its files.
        sha256: of the files, one behind the other.
        files: with the weights, or with the graph of an exported model.
        engine: that computes it: torch, onnx or openvino.
        precision: in which.
        figures: of its test, percent; empty: it was not tested.
        measured_on: the data of the test.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=f"^{_ID}$")
    title: str = Field(min_length=1, max_length=120)
    description: str = Field(max_length=4000)
    license: str = Field(min_length=1, max_length=120)
    version: str
    created: str
    task: Task
    classes: tuple[str, ...] = Field(min_length=1)
    colors: tuple[tuple[int, int, int], ...]
    dates: Literal[1, 2]
    gsd: float | None
    bands: tuple[int, int, int]
    stretch: tuple[float, float] | None
    window: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    backbone: str
    parameters: int
    weights_bytes: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    files: tuple[_File, ...] = Field(("model.safetensors",), min_length=1)
    engine: Literal["torch", "onnx", "openvino"] = "torch"
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    figures: dict[str, float | None]
    measured_on: str | None

    def to_stac(self) -> dict[str, Any]:
        """Return the card as a STAC Item."""
        task = _TASKS[self.task]
        own = self.model_dump(mode="json", exclude={"id", "title", "description", "license"})
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [_SCHEMA],
            "id": self.id,
            "geometry": None,
            "properties": {
                "datetime": self.created,
                "title": self.title,
                "description": self.description or self.title,
                "license": self.license,
                "mlm:name": self.title,
                "mlm:architecture": f"ViT, {self.backbone}",
                "mlm:tasks": [task],
                "mlm:framework": "cgeartheye",
                "mlm:framework_version": __version__,
                "mlm:total_parameters": self.parameters,
                "mlm:memory_size": self.weights_bytes,
                "mlm:pretrained": True,
                "mlm:input": [self._input(name) for name in self._images],
                "mlm:output": [self._output(task)],
                **{_OWN + name: value for name, value in own.items() if name != "created"},
            },
            "links": [],
            "assets": {
                **self._assets(),
                "thumbnail": {
                    "href": f"./{THUMBNAIL}",
                    "type": "image/jpeg",
                    "roles": ["thumbnail"],
                },
            },
        }

    def _assets(self) -> dict[str, Any]:
        """Describe the model's files; the first is the one to open."""
        assets = {}
        for number, name in enumerate(self.files):
            media, artifact = ARTIFACTS[name]
            assets["weights" if number == 0 else name] = {
                "href": f"./{name}",
                "type": media,
                "title": f"the whole network for {self.engine}, {self.precision}",
                "roles": ["mlm:model", "mlm:weights", "data"] if number == 0 else ["data"],
                "mlm:artifact_type": artifact,
                "bands": [{"name": band} for band in _BANDS],
            }
        return assets

    @property
    def _images(self) -> tuple[str, ...]:
        return ("image",) if self.dates == 1 else ("image before", "image after")

    def _input(self, name: str) -> dict[str, Any]:
        """Describe an image; MLM counts its scaling band by band."""
        pairs = zip(self.mean, self.std, strict=True)
        return {
            "name": name,
            "bands": list(_BANDS),
            "input": {
                "shape": [-1, 3, self.window, self.window],
                "dim_order": ["batch", "bands", "height", "width"],
                "data_type": "uint8",
            },
            "value_scaling": [{"type": "z-score", "mean": m, "stddev": s} for m, s in pairs],
        }

    def _output(self, task: str) -> dict[str, Any]:
        shape, order = [-1, len(self.classes)], ["batch", "class"]
        if self.task == "object_detection":
            shape, order = [-1, -1, 6], ["batch", "object", "box"]
        elif self.task != "scene_classification":
            shape, order = [*shape, self.window, self.window], [*order, "height", "width"]
        return {
            "name": self.task,
            "tasks": [task],
            "result": {"shape": shape, "dim_order": order, "data_type": "float32"},
            "classification:classes": class_objects(self.classes, self.colors),
        }

    @classmethod
    def from_stac(cls, item: Mapping[str, Any], source: Path) -> Self:
        """Read a card.

        Args:
            item: the STAC Item.
            source: its file, for messages.

        Raises:
            UserError: it is no card of an application.
        """
        try:
            properties = item["properties"]
            own = {
                name.removeprefix(_OWN): value
                for name, value in properties.items()
                if name.startswith(_OWN)
            }
            shared = {name: properties[name] for name in ("title", "description", "license")}
            return cls(id=item["id"], created=properties["datetime"], **shared, **own)
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{source} is no card of an application: {reason}") from error


_BANDS = ("red", "green", "blue")


def read_card(folder: Path) -> Card:
    """Read the card of an application's folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / CARD
    try:
        item = json_object(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} cannot be read as the card of an application: {reason}") from error
    return Card.from_stac(item, path)


def write_card(card: Card, folder: Path) -> None:
    """Write a card into an application's folder."""
    write_json(folder / CARD, card.to_stac())


def id_of(title: str) -> str:
    """Return an id for a title: "Roads, 0.2 m" becomes `roads-0-2-m`.

    Raises:
        UserError: nothing of the title can be in an id.
    """
    words = re.findall("[a-z0-9]+", title.lower())
    made = "-".join(words)[:63].strip("-")
    if not made:
        raise UserError(f"no id can be made of the name '{title}': name one with --id, e.g. roads")
    return made


def is_id(text: str) -> bool:
    """Return whether a text may be the id of an application."""
    return re.fullmatch(_ID, text) is not None
