#!/usr/bin/env bash
# A COCO annotation with the id 0 can never be found: AP 0.25 for perfect predictions.
#
# Versions: pycocotools 2.0.11, faster-coco-eval 1.8.0.
# One would guess: ids only have to be unique, so that numbering from 0, as many exporters do, is fine.
# Seen: two objects and two predictions that are equal to them give AP 1.000 with ids 1 and 2, and
# AP 0.252, recall 0.5 with ids 0 and 1, in both evaluators. The id of the object that a prediction was
# matched with is kept in a table in which 0 means 'none'; the prediction counts as a false alarm.
# In a set of one object per image only the very first object is lost, which nobody sees.
# So: number annotations from 1 before evaluating.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 faster-coco-eval==1.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import contextlib
import copy
import io

import faster_coco_eval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def truth(ids):
    boxes = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [10 + 30 * n, 10, 20, 20],
              "area": 400, "iscrowd": 0} for n, i in enumerate(ids)]
    return {"info": {}, "images": [{"id": 1, "width": 100, "height": 100}],
            "categories": [{"id": 1, "name": "ship"}], "annotations": boxes}


def figures(kind, evaluator, ids):
    found = [{"image_id": 1, "category_id": 1, "bbox": [10 + 30 * n, 10, 20, 20],
              "score": 0.9 - 0.1 * n} for n in range(2)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = kind()
        coco.dataset = copy.deepcopy(truth(ids))
        coco.createIndex()
        measured = evaluator(coco, coco.loadRes(found), iouType="bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return round(float(measured.stats[0]), 3), round(float(measured.stats[8]), 3)


for name, kind, evaluator in (
    ("pycocotools", COCO, COCOeval),
    ("faster-coco-eval", faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
):
    for ids in ([1, 2], [0, 1]):
        print(name, "ids", ids, "AP, AR", figures(kind, evaluator, ids))
    assert figures(kind, evaluator, [1, 2]) == (1.0, 1.0)
    assert figures(kind, evaluator, [0, 1]) == (0.252, 0.5)
PYTHON
