"""A plain verdict on a map in which nothing was found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgeartheye.mapping.job import MapJob
from cgeartheye.utils.state import json_object

_TESTED = "test.json"  # of a run
_LITTLE = 40.0  # percent


def judge_map(job: MapJob, facts: Mapping[str, Any]) -> str | None:
    """Report that a map is empty or all of one class, with likely causes and remedies.

    Args:
        job: the map.
        facts: what `map.json` holds.

    Returns:
        A sentence; none where nothing stands out.
    """
    if "classes" not in facts:
        return None  # vectors are no findings
    asked = job.options
    gsd = asked.gsd or job.settings["model_gsd"]
    own = f"{max(job.scene.ground):.3g}"
    causes = []
    if facts["kind"] == "objects":
        if facts["objects"]:
            return None
        what = "no object is found: the map is empty"
        score = job.settings["score_threshold"]
        if score > 0:
            causes.append(
                f"the least score of {score:.2g} is too high (try --score-threshold "
                f"{score / 3:.2g})"
            )
    else:
        seen = [value for value, entry in enumerate(facts["classes"]) if entry["pixels"]]
        if len(seen) != 1 or len(job.classes) == 1:
            return None
        if job.scene.dates and seen == [0]:
            what = "no change is found: the map is empty, and has no polygons"
            if not asked.coregister:
                causes.append("the dates are not aligned (try --coregister)")
        else:
            what = f"everything is taken for {job.classes[seen[0]]}"
            what += ": the map has no polygons" if seen[0] in job.clear else ""
    causes += _learned_little(job)
    if gsd is None:
        causes.append(f"the model was trained on another resolution (try --gsd; now {own} m/px)")
    elif job.grid.resampled:
        causes.append(f"{gsd:.3g} m/px do not suit the model (try --gsd {own}, the scene's own)")
    bands = " ".join(map(str, asked.bands))
    causes.append(f"bands or contrast differ from the training's (now --bands {bands}; --stretch)")
    causes.append("the model has not learned it (see the report of its run)")
    return f"{what}. Likeliest causes: {'; '.join(causes[:2])}"


def _learned_little(job: MapJob) -> list[str]:
    """Return the figure of the run's own test where it is low, read beside the model."""
    path = Path(job.settings["model"].get("path", "none")).with_name(_TESTED)
    try:
        name, figure = next(iter(json_object(path.read_bytes()).items()))
    except (OSError, ValueError, StopIteration):
        return []  # an application, an export, a published model
    if not isinstance(figure, int | float) or figure >= _LITTLE:
        return []
    return [f"the model has learned little ({name} {figure:.1f} % in its own test)"]
