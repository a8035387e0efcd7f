"""Base, stage 1: global crops of 224 px, on 16 GPUs."""

from cgeartheye.config import Network, Pretraining, PretrainingData, PretrainingSchedule

config = Pretraining(
    backbone=Network(
        name="base",
        gsd=0.75,
        drop_path=0.2,
        compile=True,
    ),
    data=PretrainingData(store="datasets/Pretraining/JLSSD", batch_size=64, workers=8),
    training=PretrainingSchedule(
        steps=300000,
        lr=1e-3,
        precision="bf16",
        sharding="ddp",
        checkpoint_every=2500,
        keep_every=25_000,
    ),
)
