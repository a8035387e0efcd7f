#!/usr/bin/env bash
# OpenVINO opens a network in float32, quantizes it to int8, and then cannot open what came out.
#
# Versions: openvino 2026.4.1, nncf 3.4.0 (numpy 2.4.6), CPU.
# One would guess: whether a graph can be opened does not depend on the number of tokens.
# Seen: the output of a layer norm, tokens [T, 192], is reshaped to [batch, tokens, 192], as vision
# transformers that work on the tokens of all images at once end. In float32 it is opened with any
# number of tokens. After nncf.quantize it is opened with up to 192 tokens an image, and with 193
# compile_model raises "Requested output shape [1,193,1] is incompatible with input shape": the
# plugin takes the scale of the norm for a scale of quantization and reshapes it, and does so where
# the tokens outnumber the channels. So a test at a small image size passes and the real one fails:
# with patches of 14 pixels and 192 channels the limit is 182 pixels a side.
# So: reshape first and normalize afterwards, which is the same sum; test at the real size.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 nncf==3.4.0 numpy==2.4.6
cd "$folder"
cat >reshape.py <<'PYTHON'
import nncf
import numpy as np
import openvino as ov
from openvino import opset13 as ops

CHANNELS = 192
random = np.random.default_rng(0)


def values(*shape):
    return random.normal(size=shape).astype(np.float32)


def network(tokens, reshape_first):
    image_tokens = ops.parameter([-1, CHANNELS], np.float32)
    shape = ops.constant([-1, tokens, CHANNELS])
    x = ops.reshape(image_tokens, shape, False) if reshape_first else image_tokens
    x = ops.mvn(x, ops.constant([-1]), True, 1e-6, "inside_sqrt")
    x = ops.add(ops.multiply(x, ops.constant(values(CHANNELS))), ops.constant(values(CHANNELS)))
    x = x if reshape_first else ops.reshape(x, shape, False)
    x = ops.matmul(x, ops.constant(values(CHANNELS, CHANNELS)), False, False)
    return ov.Model([ops.result(x)], [image_tokens], "network")


def opens(model):
    try:
        ov.Core().compile_model(model, "CPU")
    except RuntimeError as error:
        assert "is incompatible with input shape" in str(error), error
        return False
    return True


def quantized(model, tokens):
    samples = nncf.Dataset([values(2 * tokens, CHANNELS)])
    transformer = nncf.ModelType.TRANSFORMER
    return nncf.quantize(model, samples, subset_size=1, model_type=transformer)


found = {}
for tokens in (192, 193):
    for first in (False, True):
        model = network(tokens, first)
        found[tokens, first] = opens(model), opens(quantized(model, tokens))
        order = "reshape, then norm" if first else "norm, then reshape"
        print(f"{tokens} tokens, {order}: float32, int8 opened: {found[tokens, first]}")
assert found.pop((193, False)) == (True, False)
assert set(found.values()) == {(True, True)}
PYTHON
"$folder/venv/bin/python" reshape.py 2>log || { cat log; exit 1; }
