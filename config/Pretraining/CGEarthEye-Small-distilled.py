"""Small, distilled from the published Giant, beside the losses of pre-training (Oquab et al. 2023).

The teacher sees the global crops in every step, so that the store may hold any number of images;
seasons and masked patches act as in CGEarthEye-Small-224.py. For a teacher of your own, set
teacher.backbone.name and teacher.backbone.weights.
"""

from cgeartheye.config import (
    Network,
    Normalization,
    Objective,
    Pretraining,
    PretrainingData,
    PretrainingSchedule,
    Teacher,
)

config = Pretraining(
    backbone=Network(name="small", gsd=0.75, drop_path=0.1, compile=True),
    data=PretrainingData(store="datasets/Pretraining/JLSSD", batch_size=128, workers=8),
    objective=Objective(koleo_weight=0.1),
    teacher=Teacher(
        backbone=Network(
            name="giant",
            weights="weights/CGEarthEye-Giant-518.pth",
            normalization=Normalization(),
            gsd=0.75,
        ),
        view="crop",
        image_size=224,
    ),
    training=PretrainingSchedule(
        steps=100_000,
        lr=2e-3,
        precision="bf16",
        checkpoint_every=2500,
        keep_every=25_000,
    ),
)
