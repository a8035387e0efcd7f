"""Small, stage 2: global crops of 518 px, from the end of stage 1, on 16 GPUs."""

from cgeartheye.config import Network, Pretraining, PretrainingData, PretrainingSchedule, Views

config = Pretraining(
    start_from="runs/CGEarthEye-Small-224",
    backbone=Network(
        name="small",
        gsd=0.75,
        drop_path=0.1,
        compile=True,
        checkpoint_activations=True,
    ),
    data=PretrainingData(store="datasets/Pretraining/JLSSD", batch_size=32, workers=8),
    views=Views(global_size=518),
    training=PretrainingSchedule(
        steps=30_000,
        lr=5e-4,
        precision="bf16",
        sharding="ddp",
        checkpoint_every=1000,
        keep_every=10_000,
    ),
)
