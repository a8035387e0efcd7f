#!/usr/bin/env bash
# `import torchvision` imports PyTorch's compiler, sympy and FSDP: as long again as torch itself.
#
# Versions: torchvision 0.29.2 with torch 2.15.0, Python 3.11.
# One would guess: torchvision adds little to the import of torch, which leaves its compiler out
# until torch.compile is called; torchvision.ops.roi_align has a decorator of its own to that end.
# Seen: the same module asks torch._dynamo.utils at import whether anything can be compiled, and
# that loads torch._dynamo, torch._inductor, sympy and torch.distributed.fsdp: some nine hundred
# modules besides torchvision's own. It cannot be left out: torchvision's __init__ imports ops, so
# transforms.v2, tv_tensors and io bring it too.
# So: commands that only read a header or print help import torchvision late; processes that are
# started often are forked from one that has it.
# Needs Python 3.11 or later and a package index (torch is large); exits with another code than 0
# if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import time

HEAVY = "torch._dynamo", "torch._inductor", "sympy", "torch.distributed.fsdp"


def modules(name):
    """How many modules an import adds, and how many seconds it takes."""
    before, started = len(sys.modules), time.perf_counter()
    __import__(name)
    return len(sys.modules) - before, time.perf_counter() - started


torch = modules("torch")
light = [name for name in HEAVY if name not in sys.modules]
vision = modules("torchvision.transforms.v2")
own = sum(name.startswith("torchvision") for name in sys.modules)
print(f"torch: {torch[0]} modules, {torch[1]:.1f} s; without {', '.join(light)}")
print(f"torchvision: {vision[0]} modules, {own} of them its own, {vision[1]:.1f} s more")
loaded = all(name in sys.modules for name in HEAVY)
sys.exit(not (loaded and "torch._dynamo" in light and vision[0] - own > 500))
PYTHON
