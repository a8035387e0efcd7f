"""Giant of 224 px, frozen, with BAN on images of 256 px of SYSU-CD."""

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
        name="giant",
        weights="weights/CGEarthEye-Giant-224.pth",
        normalization=Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        gsd=0.75,
    ),
    data=ChangeData(
        root="datasets/ChangeDetection/SYSU-CD",
        catalog="SYSU-CD",
        test="test",
        image_size=256,
        batch_size=8,
    ),
    decoder=ChangeDecoder(
        kind="ban", layers=(9, 19, 29, 39), backbone_size=224, side_weights="weights/mit_b2.pth"
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
