import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent))  # for the toys

from toy_change import draw_pair
from toy_land import draw
from toy_things import CLASSES, write_things

SIZES = [(56, 56), (70, 90), (40, 61), (56, 84), (30, 30), (64, 64), (57, 80)]


@pytest.fixture(scope="session")
def land(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chips of many sizes: 12 to train on, 7 to test, which no number divides."""
    root = tmp_path_factory.mktemp("land")
    for part, count in (("train", 12), ("val", 7)):
        for kind in ("Img", "Label"):
            (root / part / kind).mkdir(parents=True)
        for number in range(count):
            size = SIZES[number % len(SIZES)]
            image, mask = draw(number + 100 * (part == "val"), *size)
            Image.fromarray(image).save(root / part / "Img" / f"{number}.png")
            Image.fromarray(mask).save(root / part / "Label" / f"{number}.png")
    return root


@pytest.fixture
def land_config(land: Path, tmp_path: Path) -> Path:
    path = tmp_path / "land.yaml"
    path.write_text(
        f"""
task: semantic_segmentation
backbone: {{name: tiny, weights: random}}
data:
  {{root: {land}, classes: [wood, field, water], image_size: 56, batch_size: 4, workers: 0,
    scale: [0.8, 1.25], color_jitter: false}}
decoder: {{kind: light, channels: 64}}
training: {{epochs: 3, lr: 2e-3, decoder_lr_mult: 1.0, log_every: 1, device: cpu, warmup_epochs: 1}}
cache: {{views: 2}}
work_dir: {tmp_path / "run"}
"""
    )
    return path


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of many sizes: 10 to train on, 5 to test; one of these shows no change."""
    root = tmp_path_factory.mktemp("pairs")
    for part, count in (("train", 10), ("val", 5)):
        for kind in ("Image1", "Image2", "Label"):
            (root / part / kind).mkdir(parents=True)
        for number in range(count):
            before, after, mask = draw_pair(number + 100 * (part == "val"), 60, 70 - number)
            if part == "val" and number == 3:
                after, mask = before, mask & False
            Image.fromarray(before).save(root / part / "Image1" / f"{number}.png")
            Image.fromarray(after).save(root / part / "Image2" / f"{number}.png")
            Image.fromarray(mask.astype("uint8") * 255).save(
                root / part / "Label" / f"{number}.png"
            )
    return root


@pytest.fixture
def change_config(pairs: Path, tmp_path: Path) -> Path:
    path = tmp_path / "change.yaml"
    path.write_text(
        f"""
task: change_detection
backbone: {{name: tiny, weights: random, layer_scale: 0.5}}
data: {{root: {pairs}, image_size: 56, batch_size: 4, workers: 0, color_jitter: false}}
decoder: {{kind: light, channels: 32}}
training: {{epochs: 3, lr: 1e-2, decoder_lr_mult: 1.0, log_every: 1, device: cpu, warmup_epochs: 1}}
cache: {{views: 4}}
work_dir: {tmp_path / "run"}
"""
    )
    return path


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with objects: 8 to train on, 5 of other sizes to test."""
    root = tmp_path_factory.mktemp("things")
    write_things(root, "train", {f"t{n}": (n, 112, 112) for n in range(8)})
    sizes = [(112, 112), (112, 90), (80, 112), (100, 100), (112, 112)]
    write_things(root, "val", {f"v{n}": (100 + n, *size) for n, size in enumerate(sizes)})
    return root


@pytest.fixture(scope="session")
def few_things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two of these."""
    root = tmp_path_factory.mktemp("few-things")
    write_things(root, "train", {f"t{n}": (n, 112, 112) for n in range(2)})
    return root


@pytest.fixture
def things_config(things: Path, tmp_path: Path) -> Path:
    path = tmp_path / "things.yaml"
    path.write_text(
        f"""
task: object_detection
backbone: {{name: tiny, weights: random, layer_scale: 0.5}}
data:
  {{root: {things}, classes: [{", ".join(CLASSES)}], image_size: 112, batch_size: 4, workers: 0,
    scale: [1.0, 1.0], flips: horizontal}}
decoder:
  {{channels: 64, queries: 40, encoder_layers: 1, decoder_layers: 2, heads: 4, ffn_dim: 128,
    num_dn_queries: 20}}
training: {{epochs: 1, lr: 2e-3, decoder_lr_mult: 1.0, log_every: 1, device: cpu, warmup_epochs: 1,
  weight_decay: 1e-4, clip_norm: 0.5}}
cache: {{views: 1}}
work_dir: {tmp_path / "run"}
"""
    )
    return path
