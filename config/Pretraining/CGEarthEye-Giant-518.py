"""Giant, stage 2: global crops of 518 px, from the end of stage 1, on 16 GPUs."""

from cgeartheye.config import Network, Pretraining, PretrainingData, PretrainingSchedule, Views

config = Pretraining(
    start_from="runs/CGEarthEye-Giant-224",
    backbone=Network(
        name="giant",
        gsd=0.75,
        drop_path=0.4,
        compile=True,
        checkpoint_activations=True,
    ),
    data=PretrainingData(store="datasets/Pretraining/JLSSD", batch_size=8, workers=8),
    views=Views(global_size=518),
    training=PretrainingSchedule(
        steps=30_000,
        lr=1.2e-4,
        precision="bf16",
        sharding="fsdp",
        checkpoint_every=1000,
        keep_every=10_000,
    ),
)
