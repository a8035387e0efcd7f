"""Base at 518 px, frozen, with UPerNet on ISPRS Potsdam; the schedule is that of iSAID."""

from cgeartheye.config import (
    Backbone,
    Normalization,
    SegmentationData,
    SegmentationDecoder,
    SemanticSegmentation,
    Training,
)

config = SemanticSegmentation(
    backbone=Backbone(
        name="base",
        weights="weights/CGEarthEye-Base-518.pth",
        normalization=Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        gsd=0.75,
    ),
    data=SegmentationData(
        root="datasets/SemanticSegmentation/Potsdam",
        catalog="Potsdam",
        image_size=518,
        batch_size=8,
    ),
    decoder=SegmentationDecoder(kind="upernet", layers=(2, 5, 8, 11)),
    training=Training(
        steps=160_000,
        lr=6e-5,
        decoder_lr_mult=10.0,
        weight_decay=0.01,
        schedule="poly",
        warmup_steps=3_000,
        warmup_from=1e-6,
    ),
)
