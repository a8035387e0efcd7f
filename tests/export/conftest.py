import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.quicker import leave_charts_out, shallow_backbone

sys.path.append(str(Path(__file__).parents[1] / "commands"))  # for the toys

from toy_change import draw_pair
from toy_land import draw
from toy_things import CLASSES, write_things

from cgeartheye.commands import tasks
from cgeartheye.commands.export import export
from cgeartheye.config.loader import load
from cgeartheye.utils.console import muted

DEPTH = 2  # layers
BACKBONE = "backbone: {name: tiny, weights: random, layer_scale: 0.5}"
TRAINING = (
    "training: {epochs: 2, lr: 5e-3, decoder_lr_mult: 1.0, log_every: 1, device: cpu, "
    "warmup_epochs: 1}"
)


@pytest.fixture(autouse=True)
def _shallow() -> Iterator[None]:
    """The time of an export is that of its operators."""
    with shallow_backbone(DEPTH):
        yield


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, chips: Path) -> dict[str, Path]:
    """Run directories of the tasks, each trained for a moment when it is first asked for."""
    root = tmp_path_factory.mktemp("exported")
    land, pairs, things = root / "land", root / "pairs", root / "things"
    for part, count in (("train", 8), ("val", 4)):
        for kind in ("Img", "Label", "Image1", "Image2"):
            for folder in (land, pairs):
                (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            image, mask = draw(n + 50 * (part == "val"), 56, 70)
            Image.fromarray(image).save(land / part / "Img" / f"{n}.png")
            Image.fromarray(mask).save(land / part / "Label" / f"{n}.png")
            before, after, changed = draw_pair(n + 50 * (part == "val"), 60, 64)
            Image.fromarray(before).save(pairs / part / "Image1" / f"{n}.png")
            Image.fromarray(after).save(pairs / part / "Image2" / f"{n}.png")
            Image.fromarray(changed.astype(np.uint8) * 255).save(
                pairs / part / "Label" / f"{n}.png"
            )
        write_things(things, part, {f"{part}{n}": (n, 112, 112) for n in range(count)})
    things_data = (
        f"data: {{root: {things}, classes: [{', '.join(CLASSES)}], image_size: 112, "
        "batch_size: 4, workers: 0, scale: [1.0, 1.0], flips: horizontal}"
    )
    configs = {
        "scene": f"data: {{root: {chips}, image_size: 28, batch_size: 8, workers: 0, "
        "train_fraction: 0.55}",
        "segmentation": f"""task: semantic_segmentation
data: {{root: {land}, classes: [wood, field, water], image_size: 56, batch_size: 4, workers: 0,
  color_jitter: false}}
decoder: {{kind: light, channels: 64}}""",
        "change": f"""task: change_detection
data: {{root: {pairs}, image_size: 56, batch_size: 4, workers: 0, color_jitter: false}}
decoder: {{kind: light, channels: 32}}""",
        "light": f"""task: object_detection
{things_data}
decoder: {{kind: light, channels: 64}}""",
        "dino": f"""task: object_detection
{things_data}
decoder: {{channels: 64, queries: 40, encoder_layers: 1, decoder_layers: 2, heads: 4, ffn_dim: 128,
  num_dn_queries: 20}}""",
    }

    class Runs(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            path = root / f"{name}.yaml"
            path.write_text(f"{configs[name]}\n{BACKBONE}\n{TRAINING}\nwork_dir: {root / name}\n")
            with muted(), pytest.MonkeyPatch.context() as patch:
                leave_charts_out(patch)  # this may be before a test's own fixtures
                tasks.train(load(path))
            self[name] = root / name
            return self[name]

    return Runs()


@pytest.fixture(scope="session")
def onnx(runs: dict[str, Path]) -> dict[str, Path]:
    """ONNX exports of the runs, each made when it is first asked for."""

    class Exports(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = export(runs[name], "onnx")
            return self[name]

    return Exports()
