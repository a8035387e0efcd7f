"""The default backbone's last steps: all patches, larger images beside small ones.

Goes on with what CGEarthEye-Tiny-distilled.py learned; `tools/default_backbone.sh` runs both.
"""

from cgeartheye.config import (
    FeatureCache,
    Network,
    Objective,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Teacher,
    Views,
)

config = Pretraining(
    backbone=Network(name="tiny", gsd=0.6, layer_scale=1.0, compile=True),
    data=PretrainingData(store="store", batch_size=32, workers=0, hold="memory"),
    views=Views(
        global_size=168,
        global_area=(0.5, 1.0),
        local_crops=4,
        local_size=98,
        local_area=(0.3, 1.0),
        seasons="off",
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
    ),
    objective=Objective(dino_weight=0.0, masked_weight=0.0, momentum=0.99, momentum_end=0.999),
    teacher=Teacher(
        backbone=Network(name="timm/tf_efficientnet_lite0", weights="teacher.safetensors"),
        image_size=224,
        layers=(-2, -1),
        mixup=0.5,
        cache=FeatureCache(views=1),
    ),
    training=PretrainingSchedule(
        steps=250,
        lr=3e-4,
        lr_batch=None,
        layer_decay=1.0,
        patch_embed_lr=1.0,
        weight_decay=(0.05, 0.05),
        betas=(0.9, 0.95),
        warmup=0.05,
        clip_norm=1.0,
        precision="bf16",
        log_every=10,
        checkpoint_every=50,
    ),
)
