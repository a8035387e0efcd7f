#!/usr/bin/env bash
# PyTorch's distributed checkpoints of a training that holds a part back cannot be resumed.
#
# Versions: torch 2.15.0, Python 3.11.
# One would guess: what get_optimizer_state_dict gives and torch.distributed.checkpoint.save writes
# is what the same code of a new process reads, wherever the training was killed. Self-supervised
# training holds the last layer of its heads back at first (DINO), fine-tuning its backbone.
# Seen: AdamW has no moments of a parameter that has had no gradient yet, so the checkpoint has none.
# In a new process get_optimizer_state_dict makes some up for every parameter by a step of its own,
# and load wants them all: "Missing key in checkpoint state_dict: optimizer.state.head...". Plain
# optimizer.state_dict and load_state_dict have no such trouble. And the error, CheckpointException,
# is no Exception: `except Exception` around a resume does not see it.
# So: load only the moments that the checkpoint has, and put them back with
# StateDictOptions(strict=False), which leaves the others without any.
# Needs Python 3.11 or later and a package index (torch is large); exits with another code than 0 if
# this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
cat >"$folder/resume.py" <<'PYTHON'
import tempfile

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)


def begin(seed):
    """A backbone that learns, and a head that is held back in the first step."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model, optimizer, held_back):
    model["head"](model["backbone"](torch.ones(1, 2))).sum().backward()
    if held_back:
        model["head"].weight.grad = model["head"].bias.grad = None
    optimizer.step()
    optimizer.zero_grad()


model, optimizer = begin(0)
step(model, optimizer, held_back=True)
plain, folder = optimizer.state_dict(), tempfile.mkdtemp()
saved = {"optimizer": get_optimizer_state_dict(model, optimizer)}
print("saved:", *saved["optimizer"]["state"])
dcp.save(saved, checkpoint_id=folder, no_dist=True)

fresh, its_optimizer = begin(1)
wanted = {"optimizer": get_optimizer_state_dict(fresh, its_optimizer)}
print("wanted by a new process:", *wanted["optimizer"]["state"])
try:
    dcp.load(wanted, checkpoint_id=folder, no_dist=True)
    refused = ""
except CheckpointException as error:
    refused = str(error)
print("loading:", *refused.splitlines()[-1:])

partial = {
    name: moments
    for name, moments in wanted["optimizer"]["state"].items()
    if name in saved["optimizer"]["state"]
}
dcp.load({"optimizer": {"state": partial}}, checkpoint_id=folder, no_dist=True)
wanted["optimizer"]["state"] = partial
set_optimizer_state_dict(
    fresh, its_optimizer, wanted["optimizer"], options=StateDictOptions(strict=False)
)
at_rest = fresh["head"].weight not in its_optimizer.state
print("what was saved, put back without strict; the head is without moments:", at_rest)

other, plainly = begin(1)
plainly.load_state_dict(plain)
print("optimizer.load_state_dict: as many states:", len(plainly.state) == len(optimizer.state))
print("its error is an Exception:", issubclass(CheckpointException, Exception))
assert not issubclass(CheckpointException, Exception)
assert "Missing key" in refused and "head" in refused
assert len(saved["optimizer"]["state"]) == 2 and at_rest
assert len(plainly.state) == len(optimizer.state) == 2
PYTHON
cd "$folder"
venv/bin/python -W ignore resume.py
