"""Tiny, stage 2: global crops of 518 px, from the end of stage 1, on 16 GPUs."""

from cgeartheye.config import (
    Heads,
    Network,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Views,
)

config = Pretraining(
    start_from="runs/CGEarthEye-Tiny-224",
    backbone=Network(
        name="tiny",
        gsd=0.75,
        compile=True,
        checkpoint_activations=True,
    ),
    data=PretrainingData(store="datasets/Pretraining/JLSSD", batch_size=32, workers=8),
    views=Views(global_size=518),
    heads=Heads(prototypes=16384),
    training=PretrainingSchedule(
        steps=30_000,
        lr=5e-4,
        precision="bf16",
        sharding="ddp",
        checkpoint_every=1000,
        keep_every=10_000,
    ),
)
