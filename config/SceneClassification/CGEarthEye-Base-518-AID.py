"""Base at 518 px, frozen, on a fifth of AID."""

from cgeartheye.config import Backbone, Normalization, SceneClassification, SceneData, Training

config = SceneClassification(
    backbone=Backbone(
        name="base",
        weights="weights/CGEarthEye-Base-518.pth",
        normalization=Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        gsd=0.75,
    ),
    data=SceneData(
        root="datasets/SceneClassification/AID",
        catalog="AID",
        train="val_20per.txt",  # the usual protocol: a fifth is trained on, the rest is tested
        val="train_80per.txt",
        image_size=518,
    ),
    training=Training(decoder_lr_mult=1.0, base_batch_size=128),
)
