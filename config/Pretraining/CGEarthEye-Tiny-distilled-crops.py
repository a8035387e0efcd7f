"""The default backbone, stage 2: the teacher sees every crop, and all crops are mixed.

In stage 1 targets are cut from maps of whole images, so the student comes to know its few images by
heart. Here no crop is like another: two images are mixed with a new weight each time, and the
teacher says what it sees in the mixture (Beyer et al. 2022, "Knowledge distillation: A good teacher
is patient and consistent"). A sample costs several times as much.
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
        global_size=98,
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
        image_size=160,
        view="crop",
        layers=(-2, -1),
        mixup=1.0,
        kept_patches=0.5,
    ),
    training=PretrainingSchedule(
        steps=3_300,
        lr=7e-4,
        base_batch_size=None,
        layer_decay=1.0,
        patch_embed_lr_mult=1.0,
        weight_decay=(0.05, 0.05),
        betas=(0.9, 0.95),
        warmup=0.03,
        clip_norm=1.0,
        precision="bf16",
        log_every=50,
        checkpoint_every=500,
    ),
)
