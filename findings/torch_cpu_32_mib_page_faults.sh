#!/usr/bin/env bash
# PyTorch on a CPU has every tensor of 32 MiB or more zeroed anew by the system, at each operation.
#
# Versions: torch 2.15.0, Python 3.11, glibc 2.36 (x86-64).
# One would guess: memory that an operation's result gave back is used for that of the next one, as
# on a GPU, so that a larger batch is at worst as fast as a smaller one.
# Seen: PyTorch's allocator for CPUs is malloc. glibc raises the size from which it maps memory by
# itself with use, but never above 32 MiB: a result of 31 MiB is written into memory that is there,
# one of 32 MiB into 8,192 pages that the system maps, zeroes and takes back, each time. In the
# forward pass of a vision transformer the hidden layer of an MLP passes that limit at 64 images of
# 224 px in patches of 14 (192 channels): a batch of 8 is faster.
# So: batches whose largest tensors stay well below 32 MiB, or MALLOC_MMAP_THRESHOLD_ and
# MALLOC_TRIM_THRESHOLD_ set before Python starts: then there is no fault.
# Needs Python 3.11 or later, glibc and a package index (torch is large); exits with another code
# than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6
cat >"$folder/faults.py" <<'PYTHON'
import resource
import sys

import torch

torch.set_num_threads(1)
CALLS = 50


def faults(mebibytes):
    """Pages that the system maps for one addition, once memory is warm."""
    x = torch.zeros(mebibytes * 2**18)
    for _ in range(10):
        x + 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(CALLS):
        x + 1
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / CALLS


below, above = faults(31), faults(32)
print(f"page faults an addition: {below:g} of 31 MiB, {above:g} of 32 MiB")
wanted = sys.argv[1] == "mapped"
sys.exit(not (below < 10 and (above >= 8192 if wanted else above < 10)))
PYTHON
cd "$folder"
venv/bin/python faults.py mapped
MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 venv/bin/python faults.py kept
