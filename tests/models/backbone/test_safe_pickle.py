import argparse
import builtins
import collections
import functools
import io
import os
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cgeartheye.models.backbone.safe_pickle import read_pickled
from cgeartheye.utils.errors import UserError

STATE = {"cls_token": torch.arange(6.0).view(1, 1, 6), "norm.weight": torch.ones(6)}


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    """Return a function that writes an object to a `.pth` file in one of the two formats."""

    def save(content: object) -> Path:
        path = tmp_path / "weights.pth"
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return save


class Payload:
    """Unpickled the usual way, calls what it is given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_reads_what_torch_reads(save):
    base = torch.randn(4, 5)
    state = {
        "plain": base,
        "shared, strided": base.t()[1:3],
        "expanded": torch.ones(1).expand(3, 2),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.randn(2)),
        **{
            str(dtype): torch.randint(0, 2, (3,)).to(dtype)
            for dtype in (
                torch.float64,
                torch.float16,
                torch.bfloat16,
                torch.int32,
                torch.int16,
                torch.int8,
                torch.uint8,
                torch.bool,
            )
        },
    }
    path = save(state)
    found, _, foreign = read_pickled(path)
    expected = torch.load(path, weights_only=True)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert foreign == []


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: collections.OrderedDict(state),
        lambda state: {
            "state_dict": state,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}},
        },
        lambda state: {"model": {"state_dict": state}, "epoch": torch.tensor(3)},
        lambda state: {"student": {"other": torch.ones(1)}, "teacher": state},
    ],
)
def test_finds_the_state_dict(save, wrap):
    found, _, _ = read_pickled(save(wrap(STATE)))
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_state_dict_of_a_module_has_metadata_that_does_not_matter(save):
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    found, _, _ = read_pickled(save(module.state_dict()))
    assert found.keys() == module.state_dict().keys()


@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "__builtin__.eval"), (exec, "__builtin__.exec")],
)
def test_no_code_runs(save, tmp_path, function, name):
    victim = tmp_path / "victim"
    payload = Payload(
        function,
        f"touch {victim}" if function is os.system else f"open({str(victim)!r}, 'w').close()",
    )
    content = {"state_dict": STATE, "meta": [payload, {"deep": (payload,)}], "key": {1: payload}}
    path = save(content)
    found, _, foreign = read_pickled(path)
    assert found.keys() == STATE.keys()
    assert foreign == [name]
    assert not victim.exists()
    path = save(payload)
    with pytest.raises(UserError, match=f"holds a {name} and no state dict"):
        read_pickled(path)
    assert not victim.exists()
    torch.load(path, weights_only=False)
    assert victim.exists(), "the payload does bite where pickles are trusted"


def test_nothing_is_imported(save, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit\nclass Trap: pass")
    trap = types.ModuleType("trap")
    trap.Trap = type("Trap", (), {"__module__": "trap"})
    monkeypatch.setitem(sys.modules, "trap", trap)
    path = save({"state_dict": STATE, "trap": trap.Trap()})
    monkeypatch.delitem(sys.modules, "trap")
    monkeypatch.syspath_prepend(tmp_path)
    imported = []
    original = builtins.__import__
    monkeypatch.setattr(
        builtins,
        "__import__",
        lambda name, *a, **k: imported.append(name) or original(name, *a, **k),
    )
    _, _, foreign = read_pickled(path)
    assert foreign == ["trap.Trap"]
    assert "trap" not in imported
    assert "trap" not in sys.modules


def test_a_pickle_cannot_change_what_it_is_given(tmp_path):
    """The BUILD instruction sets attributes of any object, here defaults of a function."""
    attack = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"
        b"N}U\x0c__defaults__(K\x01K\x02tsU\x05extraK\x01s\x86b."
    )
    path = tmp_path / "attack.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", attack)
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(UserError):
        read_pickled(path)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    torch.save(STATE, path)
    assert read_pickled(path)[0].keys() == STATE.keys()


def test_a_published_checkpoint_with_foreign_objects(save, monkeypatch):
    """The objects of mmengine beside the weights, written by stand-ins for its classes."""
    names = ["mmengine", "mmengine.logging", "mmengine.logging.history_buffer"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = sys.modules[names[-1]]

    class HistoryBuffer:
        def __init__(self):
            self._log_history = np.arange(5.0)
            self._statistics = {"mean": np.float64(3)}

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = names[-1], "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "meta": {"epoch": 100, "cfg": "model = dict()", "seed": np.int64(1), "time": Path("x")},
        "state_dict": collections.OrderedDict(STATE),
        "message_hub": {
            "log_scalars": collections.OrderedDict(loss=HistoryBuffer()),
            "resumed_keys": collections.defaultdict(list, {"a": [np.float32(0.5)]}),
        },
        "optimizer": optimizer.state_dict(),
        "more": [
            argparse.Namespace(lr=0.1),
            functools.partial(print, 1),
            {1, 2},
            collections.deque([1, 2], 5),
            collections.Counter("abc"),
            np.dtype("float32"),
            torch.float16,
            torch.device("cpu"),
            slice(1, 2),
            1 + 2j,
            b"bytes",
        ],
    }
    path = save(content)
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    found, _, foreign = read_pickled(path)
    assert found.keys() == STATE.keys()
    assert "mmengine.logging.history_buffer.HistoryBuffer" in foreign


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "lr": 0.1}, r"holds a dict \(epoch, lr\) and no state dict"),
        ({}, "holds an empty dict"),
        ([torch.ones(2)], "holds a builtins.list"),
        (nn.Linear(2, 2), "holds a torch.nn.modules.linear.Linear .* save the model's state_dict"),
    ],
)
def test_a_file_without_a_state_dict(save, content, message):
    path = save(content)
    with pytest.raises(UserError, match=message) as error:
        read_pickled(path)
    assert str(path) in str(error.value)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(data=st.data())
def test_a_truncated_file_is_reported(save, data):
    path = save(STATE)
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:length])
    with pytest.raises(UserError, match=r"weights\.pth is damaged or incomplete"):
        read_pickled(path)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(data=st.data())
def test_damage_is_reported_or_does_no_harm(save, data):
    path = save(STATE)
    whole = bytearray(path.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    try:
        found, _, _ = read_pickled(path)
    except UserError:
        return
    if zipfile.is_zipfile(path):  # has checksums
        assert all(torch.equal(found[name], STATE[name]) for name in found)


def test_bytes_of_a_compressed_archive(tmp_path):
    torch.save(STATE, buffer := io.BytesIO())
    path = tmp_path / "again.pth"
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    found, _, _ = read_pickled(path)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)
