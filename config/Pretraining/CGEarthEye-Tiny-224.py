"""Tiny, stage 1: global crops of 224 px, on 16 GPUs."""

from cgeartheye.config import Heads, Network, Pretraining, PretrainingData, PretrainingSchedule

config = Pretraining(
    backbone=Network(
        name="tiny",
        gsd=0.75,
        compile=True,
    ),
    data=PretrainingData(store="datasets/Pretraining/JLSSD", batch_size=128, workers=8),
    heads=Heads(prototypes=16384),
    training=PretrainingSchedule(
        steps=300000,
        lr=2e-3,
        precision="bf16",
        sharding="ddp",
        checkpoint_every=2500,
        keep_every=25_000,
    ),
)
