"""Facts about a published data set, in one frozen class."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cgeartheye.config import ChangeData, DetectionData, SceneData, SegmentationData
from cgeartheye.data.index.catalog import BOXED, CATALOG, CHANGES, MASKED

Data = SceneData | SegmentationData | ChangeData | DetectionData

_TASKS: dict[type[Data], str] = {
    SceneData: "scene classification",
    SegmentationData: "semantic segmentation",
    ChangeData: "change detection",
    DetectionData: "object detection",
}
KNOWN = {**CATALOG, **MASKED, **CHANGES, **BOXED}


@dataclass(frozen=True)
class PublishedDataSet:
    """A published data set.

    Attributes:
        name: as commands take it.
        data: the section of a config that reads it, with the folder that our configs name.
        summary: what it shows.
        page: where it is published.
        paper: that describes it.
        license: of the images, as the source states it.
        images: how many, by part; `all` where the parts are a random split.
        download: what is downloaded, as `convert` takes it.
        conversion: what `convert` makes of it.
        per_class: images of a class folder, the same for all or by name.
        first_number: of the images, whose names end with a number: in each class folder, or, where
            there are none, of the first part, behind which the others go on.
        objects: boxes of all parts.
        side: pixels a side of an image.
        stems: regular expression of the names of the images, without their endings.
        checksums: SHA-256 of published lists, by name.
        config: the published config that reads it.
    """

    name: str
    data: Data
    summary: str
    page: str
    paper: str
    license: str
    images: Mapping[str, int]
    download: str
    conversion: str
    per_class: int | Mapping[str, int] | None = None
    first_number: int | None = None
    objects: int | None = None
    side: int | None = None
    stems: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    config: str | None = None

    @property
    def task(self) -> str:
        """Name of the task that it is for, in words."""
        return _TASKS[type(self.data)]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by index."""
        if not isinstance(self.data, ChangeData) and self.data.classes:
            return self.data.classes
        assert self.data.catalog
        return KNOWN[self.data.catalog].classes

    @property
    def layout(self) -> tuple[str, ...]:
        """Files below the folder of the data set, a pattern each."""
        data = self.data
        if isinstance(data, SceneData):
            lists = [name for name in (data.train, data.val) if name]
            return ("<class>/*", *lists)
        if isinstance(data, ChangeData):
            return data.before + "/*", data.after + "/*", (data.masks or "{part}/Label") + "/*"
        if isinstance(data, SegmentationData):
            known = MASKED[data.catalog] if data.catalog else None
            ending = known.mask_suffix if known else ""
            images = data.images or (known.images if known else "{part}/Img")
            masks = data.masks or (known.masks if known else "{part}/Label")
            return f"{images}/<stem>.png", f"{masks}/<stem>{ending}.png"
        boxed = BOXED[data.catalog] if data.catalog else None
        images = data.images or (boxed.images if boxed else "images/{part}")
        annotations = data.annotations or (boxed.annotations[0] if boxed else "")
        return f"{images}/*", annotations, *([data.lists] if data.lists else [])

    def part_name(self, part: str) -> str:
        """Return how the folders or lists of a part (train, val, test, all) are called."""
        return str(getattr(self.data, part, None) or part)

    def facts(self) -> list[tuple[str, str]]:
        """Return everything that is worth knowing, as labels and texts."""
        counts = [f"{number:,} {self.part_name(part)}" for part, number in self.images.items()]
        facts = [
            ("name", self.name),
            ("task", self.task),
            ("what", self.summary),
            ("classes", f"{len(self.classes)}: {', '.join(self.classes)}"),
            ("images", ", ".join(counts)),
            ("page", self.page),
            ("paper", self.paper),
            ("licence", self.license),
            ("download", self.download),
            ("convert", f"cgeartheye data convert {self.name} FOLDER {self.data.root}"),
            ("makes", self.conversion),
            *(("layout", f"{self.data.root}/{pattern}") for pattern in self.layout),
        ]
        return facts + ([("config", self.config)] if self.config else [])
