"""Base of 518 px with BAN on crops of 512 px of LEVIR-CD; the published recipe is Giant's."""

from cgeartheye.config import (
    Backbone,
    ChangeData,
    ChangeDecoder,
    ChangeDetection,
    Normalization,
    Training,
)

config = ChangeDetection(
    backbone=Backbone(
        name="base",
        weights="weights/CGEarthEye-Base-518.pth",
        normalization=Normalization(
            mean=(122.7709, 116.746, 104.0937), std=(68.5005, 66.6322, 70.3232)
        ),
        gsd=0.75,
    ),
    data=ChangeData(
        root="datasets/ChangeDetection/LEVIR-CD",
        catalog="LEVIR-CD",
        test="test",
        image_size=512,
        batch_size=8,
    ),
    decoder=ChangeDecoder(
        kind="ban", layers=(2, 5, 8, 11), backbone_size=224, side_weights="weights/mit_b2.pth"
    ),
    training=Training(
        steps=80_000,
        lr=1e-4,
        decoder_lr_mult=1.0,
        weight_decay=1e-4,
        clip_norm=0.01,
        precision="bf16",
        schedule="poly",
        warmup_steps=1_000,
        warmup_from=1e-6,
    ),
)
