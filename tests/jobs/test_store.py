"""The table of jobs, in SQLite and in PostgreSQL."""

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cgeartheye.jobs.store import LOSSES, Job, JobStore
from cgeartheye.utils.errors import UserError

Open = Callable[[], JobStore]
LONG = 60.0


def test_a_job_goes_its_way(open_store: Open) -> None:
    store, other = open_store(), open_store()
    job = store.submit("roads", {"scenes": ["a", "é"]}, "ann")
    assert (job.status, job.attempt, job.progress, job.started) == ("accepted", 0, 0, None)
    assert other.get(job.id) == job
    claimed = other.claim("w1", LONG)
    assert claimed is not None
    assert (claimed.id, claimed.status, claimed.attempt) == (job.id, "running", 1)
    assert claimed.request == {"scenes": ["a", "é"]}
    assert store.claim("w2", LONG) is None
    assert other.beat(claimed, LONG, 3, 12)
    seen = store.get(job.id)
    assert seen is not None
    assert (seen.done, seen.total, seen.progress, seen.worker) == (3, 12, 25, "w1")
    assert other.finish(claimed, "successful")
    ended = store.get(job.id)
    assert ended is not None
    assert (ended.status, ended.progress) == ("successful", 100)
    assert ended.created <= ended.started <= ended.finished  # type: ignore[operator]
    assert abs(ended.finished - time.time()) < 60  # type: ignore[operator]
    assert not other.finish(claimed, "failed", "late")
    store.remove(job.id)
    assert store.get(job.id) is None


def test_one_that_was_believed_dead_cannot_overwrite(open_store: Open) -> None:
    store = open_store()
    job = store.submit("roads", {}, "ann")
    first = store.claim("w1", -1.0)  # its lease has run out already
    second = store.claim("w2", LONG)
    assert first is not None
    assert second is not None
    assert (first.id, first.attempt, second.id, second.attempt) == (job.id, 1, job.id, 2)
    assert not store.beat(first, LONG, 9, 9)
    assert not store.finish(first, "failed", "I am late")
    store.lose(first)
    now = store.get(job.id)
    assert now is not None
    assert (now.status, now.worker, now.done, now.message) == ("running", "w2", 0, "")
    assert store.finish(second, "successful")


def test_a_job_that_kills_its_workers_fails(open_store: Open) -> None:
    store = open_store()
    job = store.submit("roads", {}, "ann")
    for _ in range(LOSSES):
        assert store.claim("w", -1.0) is not None
    assert store.claim("w", LONG) is None
    ended = store.get(job.id)
    assert ended is not None
    assert ended.status == "failed"
    assert f"lost {LOSSES} times" in ended.message


def test_who_gets_ahead_between_losses_goes_on(open_store: Open) -> None:
    store = open_store()
    job = store.submit("roads", {}, "ann")
    for done in range(1, LOSSES + 3):
        claimed = store.claim("w", LONG)
        assert claimed is not None
        assert store.beat(claimed, -1.0, done, 99)  # its lease runs out at once
    # Where it gets no further it has failed after so many losses.
    for _ in range(LOSSES - 1):
        claimed = store.claim("w", LONG)
        assert claimed is not None
        assert store.beat(claimed, -1.0, 1, 99)
        assert store.get(job.id).done == LOSSES + 2  # type: ignore[union-attr]
    assert store.claim("w", LONG) is None
    assert store.get(job.id).status == "failed"  # type: ignore[union-attr]


def test_room_is_kept_for_jobs_until_it_is_measured(open_store: Open) -> None:
    store = open_store()
    for size in (3_000_000_000, 20, 1):  # the first needs more than 32 bits
        store.submit("roads", {}, "ann", disk_bytes=size)
        time.sleep(0.005)  # SQLite's clock has milliseconds
    assert store.disk_bytes() == 3_000_000_021
    first, second = (store.claim("w", LONG) for _ in range(2))
    assert first is not None
    assert second is not None
    store.finish(first, "successful", disk_bytes=5)
    store.finish(second, "failed")
    assert store.disk_bytes() == 5 + 20 + 1
    store.remove(first.id)
    assert store.disk_bytes() == 21
    (waiting,) = store.find(statuses=("accepted",))
    store.cancel(waiting.id)  # it had no folder
    assert store.disk_bytes() == 20


def test_a_worker_that_stops_gives_its_job_back(open_store: Open) -> None:
    store = open_store()
    job = store.submit("roads", {}, "ann")
    for attempt in range(1, LOSSES + 3):  # however often: nothing was lost
        claimed = store.claim("w", LONG)
        assert claimed is not None
        assert claimed.attempt == attempt
        assert store.finish(claimed, "accepted")
    assert store.get(job.id).finished is None  # type: ignore[union-attr]


def test_cancelling(open_store: Open) -> None:
    store = open_store()
    waiting, running = (store.submit("roads", {}, "ann") for _ in range(2))
    claimed = store.claim("w", LONG)
    assert claimed is not None
    assert claimed.id == waiting.id
    store.cancel(running.id)  # the one that waits
    assert store.get(running.id).status == "dismissed"  # type: ignore[union-attr]
    store.cancel(claimed.id)
    assert not store.beat(claimed, LONG, 1, 2)
    assert store.finish(claimed, "dismissed")
    assert store.claim("w", LONG) is None
    # Cancelled, and its worker dead: nobody may begin it again.
    third = store.submit("roads", {}, "ann")
    assert store.claim("w", -1.0) is not None
    store.cancel(third.id)
    assert store.claim("w", LONG) is None
    assert store.get(third.id).status == "dismissed"  # type: ignore[union-attr]


def test_the_queue_is_fair(open_store: Open) -> None:
    store = open_store()
    for _ in range(3):
        store.submit("roads", {}, "ann")
    store.submit("roads", {}, "bob")
    owners = [store.claim("w", LONG).owner for _ in range(4)]  # type: ignore[union-attr]
    assert owners == ["ann", "bob", "ann", "ann"]


def test_the_same_key_is_the_same_job(open_store: Open) -> None:
    store = open_store()
    first = store.submit("roads", {"n": 1}, "ann", "key")
    assert store.submit("roads", {"n": 2}, "ann", "key") == first
    assert (store.keyed("ann", "key"), store.keyed("ann", "other")) == (first, None)
    assert store.submit("roads", {"n": 1}, "bob", "key").id != first.id
    assert len(store.find()) == 2
    assert store.submit("roads", {}, "ann").id != store.submit("roads", {}, "ann").id


def test_finding_and_counting(open_store: Open) -> None:
    store = open_store()
    ids = []
    for owner in ("ann", "bob", "ann"):
        ids.append(store.submit("roads", {}, owner).id)
        time.sleep(0.005)  # SQLite's clock has milliseconds
    store.claim("w", LONG)
    assert [job.id for job in store.find("ann")] == [ids[2], ids[0]]
    assert [job.id for job in store.find(statuses=("running",))] == [ids[0]]
    assert [job.id for job in store.find(limit=1, offset=1)] == [ids[1]]
    other = store.submit("water", {}, "ann")
    assert [job.id for job in store.find(app="water")] == [other.id]
    store.cancel(other.id)
    store.remove(other.id)
    assert (store.count("accepted"), store.count("accepted", "ann"), store.count("failed")) == (
        2,
        1,
        0,
    )
    assert store.ended_before(-LONG) == []
    store.cancel(ids[1])
    assert store.ended_before(-LONG) == [ids[1]]
    assert store.ended_before(LONG) == []


def test_no_job_is_claimed_twice(open_store: Open) -> None:
    store = open_store()
    count = 60
    for _ in range(count):
        store.submit("roads", {}, "ann")
    claimed: list[str] = []

    def work(own: JobStore) -> None:
        while (job := own.claim(threading.current_thread().name, LONG)) is not None:
            claimed.append(job.id)
            assert own.finish(job, "successful")
        own.close()

    threads = [threading.Thread(target=work, args=(open_store(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(claimed) == Counter({job.id: 1 for job in store.find(limit=count)})
    assert store.count("successful") == count


def test_what_cannot_be_opened_is_a_sentence(tmp_path: object) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        JobStore("/proc/none/jobs.sqlite")
    pytest.importorskip("psycopg")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1/none cannot be used") as error:
        JobStore("postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(error.value)


class Queue(RuleBasedStateMachine):
    """The store against a model of it in plain Python, through claims, losses and late writes."""

    def __init__(self) -> None:
        super().__init__()
        self.store = JobStore(":memory:")
        self.model: dict[str, str] = {}
        self.losses: Counter[str] = Counter()
        self.done: dict[str, int] = {}
        self.held: list[Job] = []  # every claim ever made, late ones too
        self.current: dict[str, int] = {}  # attempt that holds a running job

    def teardown(self) -> None:
        self.store.close()

    @rule()
    def submit(self) -> None:
        self.model[self.store.submit("roads", {}, "ann").id] = "accepted"

    @rule()
    def claim(self) -> None:
        job = self.store.claim("w", LONG)
        waiting = [one for one, status in self.model.items() if status == "accepted"]
        assert (job is None) == (not waiting)
        if job:
            assert self.model[job.id] == "accepted"
            self.model[job.id] = "running"
            self.current[job.id] = job.attempt
            self.held.append(job)

    def _is_current(self, job: Job) -> bool:
        return self.model[job.id] == "running" and self.current[job.id] == job.attempt

    @precondition(lambda self: self.held)
    @rule(data=st.data(), status=st.sampled_from(["successful", "failed", "accepted"]))
    def finish(self, data: st.DataObject, status: str) -> None:
        job = data.draw(st.sampled_from(self.held))
        assert self.store.finish(job, status) == self._is_current(job)  # type: ignore[arg-type]
        if self._is_current(job):
            self.model[job.id] = status

    @precondition(lambda self: self.held)
    @rule(data=st.data(), done=st.integers(0, 3))
    def beat(self, data: st.DataObject, done: int) -> None:
        job = data.draw(st.sampled_from(self.held))
        assert self.store.beat(job, LONG, done, 3) == self._is_current(job)
        if self._is_current(job) and done > self.done.get(job.id, 0):
            self.done[job.id], self.losses[job.id] = done, 0

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.held))
        self.store.lose(job)
        if self._is_current(job):
            self.losses[job.id] += 1
            self.model[job.id] = "failed" if self.losses[job.id] >= LOSSES else "accepted"

    @invariant()
    def agrees(self) -> None:
        assert {job.id: job.status for job in self.store.find(limit=1000)} == self.model


TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
