"""Base at 784 px, frozen, with DINO with oriented boxes (RHINO) on DIOR-R."""

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
        name="base",
        weights="weights/CGEarthEye-Base-518.pth",
        normalization=Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        gsd=0.75,
    ),
    data=DetectionData(
        root="datasets/ObjectDetection/DIORR",
        catalog="DIOR-R",
        boxes="oriented",
        train="trainval",
        val="test",
        image_size=784,
        scale=(0.5, 2.0),
        flips="both",
        batch_size=2,
    ),
    decoder=DetectionDecoder(layers=(3, 7, 11)),
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
