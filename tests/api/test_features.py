"""Features of images of every kind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import cgeartheye as cge


@pytest.fixture(scope="module")
def backbone() -> cge.Backbone:
    return cge.create_backbone("tiny")


def test_features_are_those_of_a_loop_written_out(backbone: cge.Backbone, workspace: Path) -> None:
    paths = sorted((workspace / "chips").rglob("*.png"))
    features = cge.extract_features(
        backbone, workspace / "chips", layers=[2, -1], image_size=28, batch_size=5
    )
    assert features.names == [path.relative_to(workspace / "chips").as_posix() for path in paths]
    transform = backbone.preprocessing.transform(28)
    images = torch.stack([transform(Image.open(path)) for path in paths])
    cls, (third, last) = backbone(images, layers=[2, -1])
    assert_close(features.cls, cls)
    assert_close(features.maps[0], third)
    assert_close(features.maps[1], last)
    assert_close(features[3].maps[1], last[3])


def test_every_kind_of_image_gives_the_same(backbone: cge.Backbone, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (56, 42, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    first = torch.from_numpy(image).permute(2, 0, 1)
    kinds = [
        image,
        image.transpose(2, 0, 1),
        first,
        first.float() / 255,
        image.astype(np.float64) / 255,
        Image.fromarray(image),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        image[None],
        [image],
    ]
    expected = cge.extract_features(backbone, image).cls
    for kind in kinds:
        found = cge.extract_features(backbone, kind)
        assert len(found) == 1
        assert_close(found.cls, expected, rtol=0, atol=0)
    both = cge.extract_features(backbone, [tmp_path / "a.png", image])
    assert both.names == ["a.png", "image_1"]


def test_images_of_many_sizes(backbone: cge.Backbone) -> None:
    images = [np.full((side, 28, 3), side, np.uint8) for side in (28, 28, 56, 40)]
    features = cge.extract_features(backbone, images)
    assert [tuple(one.maps[0].shape[1:]) for one in features] == [(2, 2), (2, 2), (4, 2), (3, 2)]
    alone = cge.extract_features(backbone, images[2])
    assert_close(features[2].cls, alone[0].cls)
    with pytest.raises(cge.UserError, match="differ in size"):
        _ = features.maps
    assert features[:2].maps[0].shape == (2, 192, 2, 2)


def test_modes_of_a_backbone_in_training_are_left_alone() -> None:
    tuned = cge.create_backbone("tiny", tuning="full", drop_path=0.5).train()
    tuned.network.norm.eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    first, second = (cge.extract_features(tuned, images).cls for _ in range(2))
    assert_close(first, second, rtol=0, atol=0)
    assert tuned.training
    assert not tuned.network.norm.training
    assert tuned.network.blocks[0].training


def test_class_tokens_alone(backbone: cge.Backbone) -> None:
    features = cge.extract_features("tiny", np.zeros((28, 28), np.uint8), layers=[])
    assert features.maps == []
    with pytest.raises(cge.UserError, match="name layers"):
        features.plot()


def test_a_notebook_shows_alike_patches_in_one_color(backbone: cge.Backbone) -> None:
    image = np.zeros((56, 112, 3), np.uint8)
    image[:, 56:] = (200, 180, 40)
    features = cge.extract_features(backbone, image)
    (colors,) = features._colors()
    assert colors.shape == (4, 8, 3)
    left, right = colors[:, :4].reshape(-1, 3).astype(float), colors[:, 4:].reshape(-1, 3)
    assert np.linalg.norm(left.mean(0) - right.mean(0)) > 2 * left.std(0).max()
    shown = features._repr_html_()
    assert shown.count("<img") == 1
    assert "image_0" in shown
    assert len(features.plot()) == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 4), np.uint8), "is no image"),
        (np.zeros((8, 8, 3), np.int64), "convert it to uint8"),
        (np.full((8, 8, 3), 200.0), "in place of 0 to 1"),
        (["nowhere.png"], "no image or folder nowhere.png"),
        ([], "no images are given"),
        ({1: 2}, "not a int"),
    ],
)
def test_mistakes_are_one_sentence(backbone: cge.Backbone, image: object, message: str) -> None:
    with pytest.raises(cge.UserError, match=message):
        cge.extract_features(backbone, image)  # type: ignore[arg-type]
