"""Tiny at 336 px, frozen, with a small DINO with oriented boxes on NWPU VHR-10, for a CPU."""

from cgeartheye.config import (
    Backbone,
    DetectionData,
    DetectionDecoder,
    FeatureCache,
    ObjectDetection,
    Training,
)

config = ObjectDetection(
    backbone=Backbone(name="tiny", gsd=0.6, layer_scale=1.0),
    data=DetectionData(
        root="datasets/ObjectDetection/NWPUVHR10",
        boxes="oriented",
        annotations="Annotations/Oriented Bounding Boxes",
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
        image_size=336,
        scale=(0.8, 1.6),
        batch_size=8,
        workers=0,
    ),
    # The pixels' attention to each other would take most of the time.
    decoder=DetectionDecoder(
        channels=96,
        queries=100,
        encoder_layers=0,
        decoder_layers=3,
        heads=4,
        ffn_dim=192,
        num_dn_queries=60,
    ),
    cache=FeatureCache(views=4, batch_size=16),
    training=Training(
        epochs=80,
        lr=2e-3,
        decoder_lr_mult=1.0,
        weight_decay=1e-4,
        clip_norm=0.5,
        warmup_epochs=2,
        evaluate_every=20,
    ),
)
