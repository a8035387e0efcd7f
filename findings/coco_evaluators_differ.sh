#!/usr/bin/env bash
# Two evaluators of COCO agree on ordinary data and part on what aerial images need.
#
# Versions: pycocotools 2.0.11, faster-coco-eval 1.8.0, which is meant to take its place.
# One would guess: with another limit of objects an image (aerial ones have hundreds) both give AP for
# it; and what one of them accepts, the other does.
# Seen, of perfect predictions:
#   maxDets [1, 10, 300]   pycocotools AP -1.0 (it asks for 100 by name)   faster-coco-eval AP 1.0
#   annotations without area            KeyError                           AP 1.0
#   file names as image ids             AP 1.0                             ValueError
#   no prediction at all                IndexError                         AP 0.0
# So: keep 100 among the limits and read the AP of others from eval['precision']; give every
# annotation its area; number the images; and expect either answer for an empty result.
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


def figure(kind, evaluator, image=1, area=True, found=True, limits=None):
    boxes = [{"id": n + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
              "bbox": [10 + 30 * n, 10, 20, 20], **({"area": 400} if area else {})}
             for n in range(2)]
    truth = {"info": {}, "images": [{"id": image, "width": 100, "height": 100}],
             "categories": [{"id": 1, "name": "ship"}], "annotations": boxes}
    results = [{"image_id": image, "category_id": 1, "bbox": list(box["bbox"]), "score": 0.9}
               for box in boxes]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = kind()
            coco.dataset = copy.deepcopy(truth)
            coco.createIndex()
            measured = evaluator(coco, coco.loadRes(results if found else []), iouType="bbox")
            if limits:
                measured.params.maxDets = limits
            measured.evaluate()
            measured.accumulate()
            measured.summarize()
    except Exception as error:
        return type(error).__name__
    return round(float(measured.stats[0]), 3)


peers = (COCO, COCOeval), (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)
cases = {
    "ordinary": ({}, 1.0, 1.0),
    "maxDets [1, 10, 300]": ({"limits": [1, 10, 300]}, -1.0, 1.0),
    "no area": ({"area": False}, "KeyError", 1.0),
    "file names as ids": ({"image": "x.png"}, 1.0, "ValueError"),
    "no predictions": ({"found": False}, "IndexError", 0.0),
}
for name, (options, *expected) in cases.items():
    seen = [figure(*peer, **options) for peer in peers]
    print(name, dict(zip(("pycocotools", "faster-coco-eval"), seen)))
    assert seen == expected, (name, seen, expected)
PYTHON
