"""Process that makes maps and embeddings, one after the other, and keeps its models loaded.

It speaks lines of JSON: a request on its standard input, on its standard output the progress and
then how it ended. It ends with its worker, however that ends. Run by `worker`.
"""

import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections import OrderedDict
from pathlib import Path
from queue import Queue
from typing import IO, Any

from cgeartheye.apps.publish import publish
from cgeartheye.apps.registry import FACTS
from cgeartheye.commands.embed import embed_scenes
from cgeartheye.commands.map import map_with
from cgeartheye.commands.tasks import LoadedModel, load_model, train
from cgeartheye.config import load, refuse_other_kinds
from cgeartheye.scale.cluster import map_on_cluster
from cgeartheye.training.distributed import local_device
from cgeartheye.utils.console import observed
from cgeartheye.utils.errors import UserError

_MODELS = 2  # that are kept loaded
_SECONDS = 0.2  # between two reports


class Runner:
    """Makes the maps and embeddings that are asked for."""

    def __init__(self, answers: IO[str]):
        """Take the place of the answers.

        Args:
            answers: lines of JSON.
        """
        self._answers = answers
        self._models: OrderedDict[tuple[str, int], LoadedModel] = OrderedDict()
        self._last = 0.0

    def greet(self) -> None:
        """Answer that all is imported, and requests may come."""
        self._answer(ready=True)

    def run(self, request: dict[str, Any]) -> None:
        """Run a request, or answer with the sentence of its error."""
        make = {"map": self._map, "embed": self._embed, "application": self._application}
        try:
            with observed(self._report):
                make[request["kind"]](request)
            self._answer(ended="successful", message="")
        except UserError as error:
            self._answer(ended="failed", message=str(error))
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: the worker's log has more"
            self._answer(ended="failed", message=f"an error of the program ({reason})")

    def _map(self, request: dict[str, Any]) -> None:
        options = {name: _as_option(name, value) for name, value in request["options"].items()}
        scenes = [Path(path) for path in request["scenes"]]
        after = [Path(path) for path in request["after"]] if request["after"] else None
        model, out, cluster = Path(request["model"]), Path(request["out"]), request.get("cluster")
        if cluster:
            map_on_cluster(cluster, None, model, scenes, out, options, [], True, after)
        else:
            map_with(self._model(model), scenes, out, options, resume=True, after=after)

    def _embed(self, request: dict[str, Any]) -> None:
        embed_scenes([Path(path) for path in request["scenes"]], Path(request["out"]), resume=True)

    def _application(self, request: dict[str, Any]) -> None:
        """Train the light decoder on labels, and publish it; one that was killed begins anew."""
        # Brings scikit-learn: a second that jobs of another kind need not wait for.
        from cgeartheye.commands.label import write_dataset

        out = Path(request["out"])
        shutil.rmtree(out, ignore_errors=True)
        write_dataset(
            [Path(p) for p in request["scenes"]], Path(request["label_file"]), out / "data"
        )
        config = refuse_other_kinds(
            load(out / "data" / "train.yaml", [f"work_dir={out / 'run'}"]), "train.yaml"
        )
        train(config)
        registry = Path(request["registry"])
        publish(out / "run", request["name"], registry=registry, replace=True)

    def _model(self, folder: Path) -> LoadedModel:
        key = str(folder), (folder / FACTS).stat().st_mtime_ns
        if key not in self._models:
            if len(self._models) >= _MODELS:
                self._models.popitem(last=False)
            self._models[key] = load_model(folder, [], local_device("auto"))
        self._models.move_to_end(key)
        return self._models[key]

    def _report(self, title: str, done: int, total: int) -> None:
        now = time.monotonic()
        if title == "mapping" and (now - self._last > _SECONDS or done >= total):
            self._last = now
            self._answer(done=done, total=total)

    def _answer(self, **fields: object) -> None:
        try:
            self._answers.write(json.dumps(fields) + "\n")
            self._answers.flush()
        except BrokenPipeError:
            os._exit(0)  # the worker is gone: nobody may go on in its name


def _as_option(name: str, value: Any) -> Any:
    if name == "aoi":
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


def main() -> None:
    """Take requests until the worker is gone."""
    # What else is printed is not an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A process that loads data is forked while a thread reads here, and closes its sys.stdin: of
    # the same file it would wait forever for that thread's lock.
    incoming = os.fdopen(os.dup(0), encoding="utf-8")
    sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")
    requests: Queue[str] = Queue()

    def listen() -> None:
        for line in incoming:
            requests.put(line)
        os._exit(0)  # the worker is gone: nobody may go on in its name

    threading.Thread(target=listen, daemon=True).start()
    runner = Runner(answers)
    runner.greet()
    while True:
        runner.run(json.loads(requests.get()))


if __name__ == "__main__":
    main()
