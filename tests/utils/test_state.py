"""State files that were damaged are named or made anew; nothing ends in a traceback."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cgeartheye.jlssd.resumable import Ledger as Steps
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.training.feature_cache import cached
from cgeartheye.training.run_dir import read_history
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.state import json_object

DAMAGED = [b"", b"{", b"\xff\xfe{}", b"[1]", b"3", b"null", b'"text"', b"[" * 100_000, b'{"a": 1}']


@pytest.mark.parametrize("content", DAMAGED[:-1])
def test_what_is_no_object_is_one_kind_of_error(content):
    with pytest.raises(ValueError, match=r"."):
        json_object(content)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_line_of_the_log_is_left_out_and_reported(tmp_path, content, capsys):
    good = [{"kind": "train", "step": step, "loss": 1.0} for step in range(3)]
    lines = [json.dumps(record).encode() for record in good]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([lines[0], content, *lines[1:]]) + b"\n")
    assert read_history(tmp_path) == good
    assert "1 of the 4 lines" in capsys.readouterr().out


def test_a_line_that_a_kill_cut_off_is_no_damage(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"kind": "train", "step": 1}\n{"kind": "tr')
    assert len(read_history(tmp_path)) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [*DAMAGED, b'{"key": "k", "files": 3}', b'{"key": "k"}'])
def test_a_step_whose_note_is_damaged_is_done_again(tmp_path, content):
    (tmp_path / "a.txt").write_text("a")
    steps = Steps(tmp_path)
    steps.finish("cut", "k", ["a.txt"])
    assert steps.is_done("cut", "k")
    (tmp_path / "steps/cut.json").write_bytes(content)
    assert not steps.is_done("cut", "k")
    steps.finish("cut", "k", ["a.txt"])
    assert steps.is_done("cut", "k")


def _encode():
    yield [0, 1], torch.arange(8.0).reshape(2, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: b"\x00" * len(data),
        lambda data: data[:6] + b"\xff" * 4 + data[10:],
        lambda data: data.replace(b"(2, 4)", b"(9, 9)"),
        lambda data: data.replace(b"<f2", b"|O8"),
        lambda data: data.replace(b"'descr'", b"'d(((('"),
    ],
)
def test_a_damaged_cache_is_made_anew(tmp_path, damage: Callable[[bytes], bytes]):
    cached(tmp_path, {}, (2, 4), _encode)
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(cached(tmp_path, {}, (2, 4), _encode), np.arange(8).reshape(2, 4))


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_a_ledger_with_a_flipped_bit_is_named_or_right(tmp_path, bit):
    folder = tmp_path / "unfinished"
    folder.mkdir()
    path = folder / "ledger.db"
    ledger = Ledger(path, {"gsd": 0.5})
    ledger.note([(0, 3, 100), (1, 3, 100)], [(0, 0, b"boxes")])
    ledger.close()
    whole = path.read_bytes()
    named = []
    for place in [*range(108), *range(4096, len(whole), 4096)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            again = Ledger(path, {"gsd": 0.5})
        except UserError as error:
            named.append(str(error))
            continue
        assert again.finished() == (2, 200), place
        assert again.found(0) == [(0, b"boxes")]
        again.close()
    assert len(named) > 10
    assert all("so which rows are finished is lost" in sentence for sentence in named)
