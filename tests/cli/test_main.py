"""The command line as a user meets it: help, mistakes, exit codes."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from cgeartheye.cli import main

COMMAND = [sys.executable, "-m", "cgeartheye"]


def run(*arguments: object) -> tuple[int, str]:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code  # type: ignore[return-value]


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must end with one sentence and exit code 2; return the sentence."""
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    return error


@pytest.fixture
def own_chips(chips: Path, tmp_path: Path) -> Path:
    """A copy of the chips that a test may damage."""
    root = tmp_path / "own"
    for path in chips.rglob("*.png"):
        target = root / path.relative_to(chips)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return root


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from cgeartheye.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'rasterio', 'matplotlib', 'sklearn'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in ["train", "test", "predict", "probe", "check", "config", "weights", "demo"]:
        assert command in result.stdout


@pytest.mark.parametrize("command", ["train", "test", "check", "probe"])
def test_a_wrong_field_is_named_before_torch_is_imported(command: str, tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("data: {root: chips, imge_size: 28}\n")
    code = (
        "import sys; from cgeartheye.cli import main\n"
        f"try: main([{command!r}, {str(tmp_path / 'typo.yaml')!r}])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "did you mean 'image_size'?" in result.stderr


@pytest.mark.parametrize("command", ["train", "test", "predict", "probe", "check", "demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_truncated_image(
    command: str,
    config_file: Path,
    own_chips: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = own_chips / "wood" / "wood_3.jpg"
    Image.open(own_chips / "wood" / "wood_3.png").save(image)
    image.write_bytes(image.read_bytes()[:500])
    arguments = [command, config_file, "--set", f"data.root={own_chips}"]
    if command == "check":
        assert run(*arguments) == 1
        assert "wood_3.jpg" in capsys.readouterr().out
    else:
        assert "wood_3.jpg is truncated" in fails(capsys, *arguments)
        # The same from a loader process.
        sentence = fails(
            capsys,
            *arguments,
            "--set",
            "data.workers=1",
            "--set",
            "cache.enabled=false",
            "--work-dir",
            own_chips.parent / "second",
        )
        assert "wood_3.jpg is truncated" in sentence


def write_lists(root: Path, line: str) -> None:
    lines = [f"{path.parent.name}/{path.name} 0" for path in root.glob("brick/*.png")]
    lines += [f"{path.parent.name}/{path.name} 1" for path in root.glob("wood/*.png")]
    (root / "train.txt").write_text("\n".join([*lines[::2], line]))
    (root / "val.txt").write_text("\n".join(lines[1::2]))


LISTS = ["--set", "data.train=train.txt", "--set", "data.val=val.txt"]


@pytest.mark.parametrize(
    ("line", "classes", "words"),
    [
        ("wood/wood_0.png 7", "[brick, wood]", "label 7"),
        ("wood/wood_0.png", "[brick, wood]", "train.txt:"),
        ("wood/gone.png 1", "[brick, wood]", "gone.png"),
        ("", "[brick]", "out of range"),
        ("", "[brick, wood, steel]", "3 classes"),
    ],
)
def test_lists_and_classes_that_are_wrong(
    line: str,
    classes: str,
    words: str,
    config_file: Path,
    own_chips: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_lists(own_chips, line)
    settings = ["--set", f"data.root={own_chips}", "--set", f"data.classes={classes}"]
    assert words in fails(capsys, "train", config_file, *LISTS, *settings)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.root=nowhere", "nowhere"),
        ("data.image_size=30", "28 or 42"),
        ("data.imagesize=28", "did you mean 'image_size'"),
        ("backbone.name=tinny", "did you mean 'tiny'"),
        ("backbone.weights=nowhere.pth", "nowhere.pth"),
        ("training.device=cuda:99", "no device"),
        ("training.lr=fast", "training.lr"),
    ],
)
def test_settings_that_are_wrong(
    override: str, words: str, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in fails(capsys, "train", config_file, "--set", override)


def test_list_files_that_are_missing(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "train.txt" in fails(capsys, "train", config_file, *LISTS)


def test_weights_of_another_size(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cgeartheye.models.backbone import SIZES, VisionTransformer
    from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, save_tensors

    path = tmp_path / "small.safetensors"
    facts = WeightsMetadata((1, 2, 3), (4, 5, 6), 0.75, 28).to_metadata()
    save_tensors(path, VisionTransformer(SIZES["small"], grid=2).state_dict(), facts)
    sentence = fails(capsys, "train", config_file, "--set", f"backbone.weights={path}")
    assert "set backbone.name=small" in sentence


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_malicious_pickle_does_not_run(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "owned"
    torch.save({"state_dict": Malicious(target)}, path)
    assert "evil.pth" in fails(capsys, "train", config_file, "--set", f"backbone.weights={path}")
    assert "evil.pth" in fails(capsys, "weights", "inspect", path)
    assert "evil.pth" in fails(capsys, "test", config_file, path)
    evil_run = tmp_path / "run" / "checkpoints" / "step-000000001"
    evil_run.mkdir(parents=True)
    position = {"samples": 25, "step_size": 8, "step": 1}
    (evil_run / "position.json").write_text(json.dumps(position))
    (evil_run / ".metadata").write_bytes(pickle.dumps(Malicious(target)))
    assert "it was not read" in fails(capsys, "train", config_file, "--resume")
    assert not target.exists()


def test_a_run_directory_that_cannot_be_written(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    sentence = fails(capsys, "train", config_file, "--work-dir", tmp_path / "file" / "run")
    assert "cannot write" in sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "gone.yaml"], "no config file gone.yaml"),
        (["test", "gone.yaml"], "no config file gone.yaml"),
        (["predict", "gone", "image.png", "--out", "a.csv"], "no trained model in gone"),
        (["predict", ".", ".", "--out", "a.txt"], ".csv, .json, .geojson"),
        (["weights", "inspect", "gone.pth"], "gone.pth"),
    ],
)
def test_files_that_are_not_there(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in fails(capsys, *arguments)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "gone.yaml", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_config_show_is_a_config(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("config", "show", config_file, "--set", "training.seed=5")
    text = capsys.readouterr().out
    (tmp_path / "again.yaml").write_text(text)
    run("config", "show", tmp_path / "again.yaml")
    assert capsys.readouterr().out == text
    assert "seed: 5" in text


def test_an_interrupt_prints_one_line(config_file: Path, tmp_path: Path) -> None:
    import signal

    fields = "training.epochs=2000", "backbone.tuning=full", "training.checkpoint_minutes=0.001"
    arguments = [str(config_file), *(f"--set={field}" for field in fields)]
    process = subprocess.Popen(
        [*COMMAND, "train", *arguments], stderr=subprocess.PIPE, text=True, stdout=subprocess.PIPE
    )
    checkpoints = tmp_path / "run" / "checkpoints"
    deadline = time.monotonic() + 60
    while not list(checkpoints.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    last = " ".join(error.split())
    assert f"interrupted: --resume goes on from {checkpoints}/step-" in last


def test_an_error_ends_the_process_whatever_still_runs(tmp_path: Path) -> None:
    """Threads that wait for ever do not hold it; what is registered for the end is done."""
    program = (
        "import atexit, pathlib, sys, threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        f"atexit.register(pathlib.Path({str(tmp_path / 'ended')!r}).touch)\n"
        "sys.argv = ['cgeartheye', 'config', 'show', 'nothing.yaml']\n"
        "from cgeartheye.cli import run\n"
        "run()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr == "error: no config file nothing.yaml\n"
    assert (tmp_path / "ended").exists()
