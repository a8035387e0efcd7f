"""The default backbone, stage 3: larger crops, and what is where inside of a patch.

In stages 1 and 2 the student saw 49 places at most, and the teacher's maps were no finer than its
patches. Here it sees 144, and learns of a map of the teacher that has four cells in each of them.
"""

from cgeartheye.config import (
    Network,
    Objective,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Teacher,
    Views,
)

config = Pretraining(
    backbone=Network(name="tiny", weights="tiny.safetensors", gsd=0.6, compile=True),
    data=PretrainingData(store="store", batch_size=64, workers=0, preload="memory"),
    views=Views(
        global_size=168,
        global_area=(0.12, 1.0),
        local_crops=0,
        seasons="off",
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
    ),
    objective=Objective(dino_weight=0.0, ibot_weight=0.0, momentum=0.99, momentum_end=0.999),
    teacher=Teacher(
        backbone=Network(name="timm/tf_efficientnet_lite0", weights="teacher.safetensors"),
        image_size=192,
        view="crop",
        layers=(-3, -2, -1),
        mixup=0.5,
        kept_patches=0.5,
    ),
    training=PretrainingSchedule(
        steps=1_000,
        lr=5e-4,
        base_batch_size=None,
        layer_decay=1.0,
        patch_embed_lr_mult=1.0,
        weight_decay=(0.05, 0.05),
        betas=(0.9, 0.95),
        warmup=0.08,
        clip_norm=1.0,
        precision="bf16",
        log_every=25,
        checkpoint_every=250,
    ),
)
