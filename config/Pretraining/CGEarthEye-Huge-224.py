"""Huge, stage 1: global crops of 224 px, on 16 GPUs."""

from cgeartheye.config import Network, Pretraining, PretrainingData, PretrainingSchedule

config = Pretraining(
    backbone=Network(
        name="huge",
        gsd=0.75,
        drop_path=0.4,
        compile=True,
        checkpoint_activations=True,
    ),
    data=PretrainingData(store="datasets/Pretraining/JLSSD", batch_size=32, workers=8),
    training=PretrainingSchedule(
        steps=625000,
        lr=5e-4,
        precision="bf16",
        sharding="fsdp",
        checkpoint_every=2500,
        keep_every=25_000,
    ),
)
