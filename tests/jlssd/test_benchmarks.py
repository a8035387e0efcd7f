import argparse
import re
from pathlib import Path

import pytest
from benchmarks import jlssd_design


def test_processor_time_of_a_small_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jlssd_design, "TILE", 256)
    options = argparse.Namespace(side=5, pixel=20.0, workers=1, crs=4326)
    jlssd_design.write_inputs(tmp_path, options)
    jlssd_design.measure(jlssd_design.open_inputs(tmp_path), tmp_path / "cells", options)
    found = re.search(r"processor time .*: (\S+) s, (\S+) cells/min", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) >= 0
    assert float(found[2].replace(",", "")) > 0
