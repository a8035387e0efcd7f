"""Tiny without a teacher, from some ten thousand small images, on one GPU.

`bash tools/default_backbone.sh DATA OUT` packs such a store for its distillation. The images are
held on the GPU and their crops made there; with an image of 150 to 400 px a crop of 98 px is what
224 px is to a large one. For a CPU set data.preload=memory data.workers=1 data.batch_size=64
training.steps=4000.
"""

from cgeartheye.config import (
    Heads,
    Network,
    Objective,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Views,
)

config = Pretraining(
    backbone=Network(name="tiny", gsd=0.6, layer_scale=1.0),
    data=PretrainingData(store="store", batch_size=512, workers=4, preload="device"),
    views=Views(global_size=98, local_size=42, local_crops=6, season_crops=2),
    heads=Heads(prototypes=4096, hidden=1024),
    objective=Objective(koleo_weight=0.1, momentum=0.99, momentum_end=1.0),
    training=PretrainingSchedule(
        steps=20_000,
        lr=1e-3,
        base_batch_size=512,
        layer_decay=1.0,
        patch_embed_lr_mult=1.0,
        precision="bf16",
        checkpoint_every=1000,
    ),
)
