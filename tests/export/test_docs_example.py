"""The example of the docs opens an exported model without this package."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgeartheye.commands import tasks

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"


def test_the_example_gives_the_class(
    runs: dict[str, Path], onnx: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "cgeartheye" not in code
    assert len(code.strip().splitlines()) <= 11
    place = tmp_path / "runs/mine/export/onnx-fp32"
    place.parent.mkdir(parents=True)
    place.symlink_to(onnx["scene"])
    ramp = np.linspace(0, 255, 28 * 28 * 3).reshape(28, 28, 3).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "chip.png")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    import torch

    model = tasks.load_model(runs["scene"], [], torch.device("cpu"))
    images = torch.from_numpy(ramp).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = int(model.task.probabilities(images).argmax())
    assert done.stdout.strip() == f"[{expected}]"
