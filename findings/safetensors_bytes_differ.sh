#!/usr/bin/env bash
# The same tensors and metadata do not give the same safetensors file.
#
# Versions: safetensors 0.8.0.
# One would guess: a format made for safe, reproducible sharing gives equal bytes for equal content, so
# that a checksum tells whether weights are the same.
# Seen: with 12 labels in the metadata, 10 files written one after the other by one process from one
# dict have 10 different checksums: metadata pass through a hash table with a new seed each time. The
# tensors are always in the same order, so without metadata, or with one label, files are equal.
# So: compare tensors, or write the labels in the header in order.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import hashlib

import numpy as np
from safetensors.numpy import save_file

tensors = {name: np.arange(4, dtype=np.float32) for name in "dacb"}


def checksums(metadata):
    found = set()
    for _ in range(10):
        save_file(tensors, "a.safetensors", metadata)
        with open("a.safetensors", "rb") as file:
            found.add(hashlib.sha256(file.read()).hexdigest())
    return len(found)


labels = {f"label {number}": str(number) for number in range(12)}
print("checksums of 10 files: 12 labels", checksums(labels), "| none", checksums(None),
      "| one", checksums({"format": "np"}))
assert checksums(labels) > 5
assert checksums(None) == checksums({"format": "np"}) == 1
PYTHON
