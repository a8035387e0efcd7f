#!/usr/bin/env bash
# The same DINOv2 weights give other features in timm than in transformers, at any size but 518 px.
#
# Versions: timm 1.0.31, transformers 5.23.0, torch 2.15.0, Python 3.11.
# One would guess: both load the same published file, so a frozen backbone is the same in both.
# Seen: the position embeddings of 37 x 37 patches are resampled to the patches of the image, 16 x 16
# at 224 px. timm smooths before it samples (antialias) in every network; transformers, as the
# original code, does so in DINOv2 with registers only. Without registers, waves 8 patches long come
# out 14 % apart, and what changes from patch to patch by more than its size; with registers there
# is no difference. At 518 px, where conversions are usually verified, nothing is resampled.
# So: name the library beside a figure of frozen DINOv2; for features of the original pass
# antialias=False to timm.layers.resample_abs_pos_embed and load the result.
# Needs Python 3.11 or later and a package index (torch is large); exits with another code than 0
# if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    timm==1.0.31 transformers==5.23.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cd "$folder"
HF_HUB_OFFLINE=1 venv/bin/python - <<'PYTHON'
import sys

import torch
from timm.layers import resample_abs_pos_embed
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig
from transformers import Dinov2WithRegistersModel

torch.manual_seed(0)
SMALL = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def waves(period):
    """Position embeddings `[1, 1 + 37 * 37, 64]` that repeat after a number of patches."""
    at = 2 * torch.pi * torch.arange(37.0) / period
    square = at.sin()[:, None] + at.cos()
    return torch.cat([torch.zeros(1), square.flatten()])[None, :, None].expand(1, -1, 64)


def difference(model, positions, side):
    """Between what transformers and timm make of position embeddings, relative to timm's size."""
    model.embeddings.position_embeddings.copy_(positions)
    patches = side // 14
    tokens = torch.zeros(1, 1 + patches**2, 64)
    theirs = model.embeddings.interpolate_pos_encoding(tokens, side, side)
    of_timm = resample_abs_pos_embed(positions, [patches, patches])
    return ((theirs - of_timm).norm() / of_timm.norm()).item()


fields = {"image_size": 518, "patch_size": 14, **SMALL}
models = {
    "without registers": Dinov2Model(Dinov2Config(**fields)),
    "with registers": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**fields)),
}
patterns = {"waves of 8 patches": waves(8), "noise": torch.randn(1, 1 + 37 * 37, 64)}
right = True
with torch.no_grad():
    for name, model in models.items():
        for pattern, positions in patterns.items():
            for side in (518, 224):
                apart = difference(model, positions, side)
                print(f"{name}, {pattern}, {side} px: {apart:.0%} apart")
                differs = (name, side) == ("without registers", 224)
                right &= (apart > 0.1) if differs else (apart < 1e-5)
sys.exit(not right)
PYTHON
