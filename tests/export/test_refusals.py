"""Mistakes with exported models: one sentence each, before any work."""

import json
import shutil
from pathlib import Path

import pytest

from cgeartheye.commands.engines import choose_engine
from cgeartheye.commands.export import export
from cgeartheye.inference.engines import base
from cgeartheye.tasks import exports, model_io
from cgeartheye.tasks.exports import Export, digest
from cgeartheye.utils.errors import UserError


def described(folder: Path, **changed: object) -> Path:
    """A folder with a description of an exported model, and a file that is none."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"no graph")
    exported = Export(folder, "onnx", "fp32", ("model.onnx",), digest([folder / "model.onnx"]), "0")
    (folder / "model.json").write_text(json.dumps({"export": exported.facts() | changed}))
    return folder


def test_another_version_is_refused(tmp_path: Path) -> None:
    folder = described(tmp_path / "old", layout=exports.LAYOUT + 1)
    for read in (model_io.read_model, lambda path: choose_engine(path, "onnx", None)):
        with pytest.raises(UserError, match="another version of cgeartheye"):
            read(folder)


def test_int8_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--calibrate FOLDER"):
        export(tmp_path, "openvino", "int8")


@pytest.mark.parametrize(
    ("engine", "precision", "named"),
    [
        ("tflite", "fp32", "onnx, openvino"),
        ("onnx", "bf16", "fp32, int8"),
        ("torch", "int8", "bf16"),
    ],
)
def test_what_an_engine_has_not_is_refused(
    tmp_path: Path, engine: str, precision: str, named: str
) -> None:
    with pytest.raises(UserError, match=named):
        export(tmp_path, engine, precision)


def test_an_extra_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "cgeartheye.inference.engines.onnx", raising=False)
    with pytest.raises(UserError, match=r"pip install 'cgeartheye\[onnx\]'"):
        base.open_engine("onnx", tmp_path / "model.onnx", "fp32")


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    folder = described(tmp_path / "damaged")
    export_ = exports.read_export(json.loads((folder / "model.json").read_text()), folder)
    assert export_
    with pytest.raises(UserError, match="cannot be opened by ONNX Runtime"):
        export_.open()
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(UserError, match="not what was exported"):
        export_.open()
    (folder / "model.onnx").unlink()
    with pytest.raises(UserError, match="is missing"):
        export_.open()


def test_an_engine_that_the_run_was_not_exported_for_names_the_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes(b"new weights")
    with pytest.raises(UserError, match=f"cgeartheye export {run} --format onnx --precision fp32"):
        choose_engine(run, "onnx", None)
    described(run / "export" / "onnx-fp32")
    with pytest.raises(UserError, match="of another model"):
        choose_engine(run, "onnx", None)
    with pytest.raises(UserError, match="is unknown"):
        choose_engine(run, "tensorrt", None)
    with pytest.raises(UserError, match="does not compute in int8"):
        choose_engine(run, "torch", "int8")
    assert choose_engine(run, "torch", "fp16") == (run, ["training.precision=fp16"])
    (run / "model.safetensors").unlink()
    moved = run / "export" / "onnx-fp32"
    assert choose_engine(moved, None, "fp32")[0] == moved
    with pytest.raises(UserError, match="is exported for onnx"):
        choose_engine(moved, "openvino", None)
    shutil.rmtree(moved)
