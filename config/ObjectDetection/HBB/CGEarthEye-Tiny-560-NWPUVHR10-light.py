"""Tiny at 560 px, frozen, with the light detector of horizontal boxes on NWPU VHR-10, for a CPU."""

from cgeartheye.config import (
    Backbone,
    DetectionData,
    DetectionDecoder,
    FeatureCache,
    ObjectDetection,
    Training,
)

config = ObjectDetection(
    backbone=Backbone(name="tiny", gsd=0.6),
    data=DetectionData(
        root="datasets/ObjectDetection/NWPUVHR10",
        annotations="Annotations/{part}.json",
        classes=(
            "airplane",
            "ship",
            "storage_tank",
            "baseball_diamond",
            "tennis_court",
            "basketball_court",
            "ground_track_field",
            "harbor",
            "bridge",
            "vehicle",
        ),
        train="trainval",
        val="test",
        image_size=560,
        scale=(0.7, 1.4),
        batch_size=2,
        workers=0,
    ),
    decoder=DetectionDecoder(kind="light"),
    cache=FeatureCache(views=6, batch_size=16),
    training=Training(
        epochs=40,
        lr=5e-4,
        decoder_lr_mult=1.0,
        weight_decay=1e-2,
        clip_norm=5.0,
        warmup_epochs=1,
        evaluate_every=40,
        precision="bf16",
    ),
)
