"""Route of search: places that look like some, in one embedded scene or in all of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from cgeartheye.jobs.store import Job
from cgeartheye.serve.auth import User
from cgeartheye.serve.labelling import EMBED
from cgeartheye.serve.labels import collection, opened, shows
from cgeartheye.serve.problems import Problem
from cgeartheye.serve.state import State
from cgeartheye.utils.errors import UserError

router = APIRouter(prefix="/embeddings", tags=["few clicks"])

Place = tuple[Annotated[float, Field(ge=-180, le=180)], Annotated[float, Field(ge=-90, le=90)]]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at: list[Place] = Field(min_length=1, max_length=100, description="longitude, latitude")
    unlike: list[Place] = Field(default_factory=list, max_length=100)
    top: int = Field(20, ge=1, le=200)
    everywhere: bool = Field(False, description="in all embedded scenes, not in this one alone")


@router.post("/{job}/search")
def search(job: str, body: _Asked, request: Request) -> dict[str, Any]:
    """Return places that look like some, ranked; `scene` of each is its id, `label` its name.

    `left_out`: scenes that were not searched: of other weights, or more than are searched at once.

    Args:
        job: of the embedding.
        body: what is looked for.
        request: of HTTP.
    """
    state, found, user = opened(job, request, "read")
    jobs = _jobs_of_scenes(state, user, found) if body.everywhere else {_scene(found): found.id}
    index, left_out = state.labelling.index(jobs)
    try:
        places = index.search(body.at, body.unlike, body.top)
    except UserError as error:
        raise Problem(422, str(error)) from error
    labels = {scene.id: scene.label for scene in state.scenes.visible(user.sees)}
    places["label"] = [labels.get(scene, "") for scene in places["scene"]]
    return {**collection(places), "left_out": left_out}


def _scene(job: Job) -> str:
    return str(job.request["scene_ids"][0])


def _jobs_of_scenes(state: State, user: User, first: Job) -> dict[str, str]:
    """Newest embedding of each scene that is there, by the scene; the one asked for comes first.

    Those of files that were replaced are left out.
    """
    seen = {scene.id: scene for scene in state.scenes.visible(user.sees)}
    jobs = {_scene(first): first.id}
    for job in state.store.find(user.sees, ("successful",), EMBED, 1000):
        scene = seen.get(_scene(job))
        if scene and shows(job, scene, state):
            jobs.setdefault(_scene(job), job.id)
    return jobs
