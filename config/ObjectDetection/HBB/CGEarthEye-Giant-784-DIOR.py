"""Giant at 784 px, frozen, with DINO on DIOR's horizontal boxes."""

from cgeartheye.config import (
    Backbone,
    DetectionData,
    DetectionDecoder,
    Normalization,
    ObjectDetection,
    Training,
)

config = ObjectDetection(
    backbone=Backbone(
        name="giant",
        weights="weights/CGEarthEye-Giant-518.pth",
        normalization=Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        gsd=0.75,
    ),
    data=DetectionData(
        root="datasets/ObjectDetection/DIOR",
        catalog="DIOR",
        boxes="horizontal",
        train="trainval",
        val="test",
        image_size=784,
        scale=(0.5, 2.0),
        flips="horizontal",
        batch_size=4,
    ),
    decoder=DetectionDecoder(layers=(13, 26, 39)),
    training=Training(
        epochs=60,
        lr=1e-4,
        decoder_lr_mult=1.0,
        weight_decay=1e-4,
        clip_norm=0.1,
        warmup_epochs=2,
        warmup_from=1e-3,
    ),
)
