"""Giant at 224 px, frozen, on a fifth of AID."""

from cgeartheye.config import Backbone, Normalisation, SceneClassification, SceneData, Training

config = SceneClassification(
    backbone=Backbone(
        name="giant",
        weights="weights/CGEarthEye-Giant-224.pth",
        normalisation=Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        gsd=0.75,
    ),
    data=SceneData(
        root="datasets/SceneClassification/AID",
        catalog="AID",
        train="val_20per.txt",  # the usual protocol: a fifth is trained on, the rest is tested
        val="train_80per.txt",
        image_size=224,
    ),
    training=Training(decoder_lr=1.0, lr_batch=128),
)
