"""What a crew on a cluster makes of what Dask says, and what a worker does: without processes."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claims.running import cluster, on_worker
from claims.running.cluster import Cluster
from claims.running.crew import Asked, CrewLost
from claims.running.lanes import in_error
from claims.running.many import run_claims
from claims.running.on_worker import NotAsked, run_there, surroundings
from claims.running.resting import RestingLanes
from tests.claims import fakes
from tests.claims.test_running import ASKED, FAKES

distributed = pytest.importorskip("distributed")


class Workers:
    """A client of a scheduler and workers that say what they are told to say."""

    def __init__(self, *answers: Any, scheduler: Any = None) -> None:
        self.answers = {f"tcp://worker-{i}": answer for i, answer in enumerate(answers)}
        self.scheduler = surroundings() if scheduler is None else scheduler

    def run_on_scheduler(self, *_: Any) -> Any:
        if isinstance(self.scheduler, Exception):
            raise self.scheduler
        return self.scheduler

    def run(self, *_: Any, on_error: str) -> dict[str, Any]:
        assert on_error == "return"
        return self.answers


NO_CODE = ModuleNotFoundError("No module named 'claims'")


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (
            Workers(surroundings(), scheduler=surroundings() | {"dask": "1.0"}),
            "the scheduler has dask 1.0 (here ",
        ),
        (
            Workers(surroundings(), scheduler=NO_CODE),
            "the scheduler cannot load this code, which has to be installed there: No module",
        ),
        (
            Workers(surroundings(), surroundings() | {"numpy": "1.0", "code": "0123"}),
            "the worker tcp://worker-1 has code 0123 (here ",
        ),
        (
            Workers(surroundings(), NO_CODE),
            "the worker tcp://worker-1 cannot load this code, which has to be installed there "
            "(1 of 2 workers): No module",
        ),
    ],
)
def test_workers_that_are_not_as_this_machine_are_refused(client: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        cluster._require_same(client)


def test_workers_that_are_as_this_machine_are_taken() -> None:
    bare = surroundings() | {"torch": "not installed"}
    client: Any = Workers(surroundings(), surroundings(), scheduler=bare)
    cluster._require_same(client)


def test_code_that_changed_since_a_worker_began_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    here = surroundings()
    monkeypatch.setattr(on_worker, "source_digest", lambda rooms: "0" * 64)
    there = surroundings()
    said = f"code that changed since it was loaded (here {here['code']})"
    assert on_worker.unlike(there, here) == said


def test_a_worker_that_came_late_with_other_code_runs_nothing() -> None:
    with pytest.raises(NotAsked, match=r"this worker has code \w+ \(here 0123\)"):
        run_there("fake.passing", ASKED, 1, surroundings() | {"code": "0123"}, "topic")


class Answering:
    """A client whose tasks end as soon as somebody waits for them, and leave events behind."""

    status = "running"

    def __init__(self) -> None:
        self.open: list[Any] = []
        self.most = 0
        self.given: dict[str, Any] = {}
        self.after: list[Any] = []

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self.tell = handler

    def unsubscribe_topic(self, topic: str) -> None:
        self.after.append("unsubscribed")

    def submit(self, task: Any, claim: str, *given: Any, key: Any) -> Any:
        def add_done_callback(put: Any) -> None:
            put(future)
            self.tell((0.0, {"claim": claim, "share": 0.9}))

        def result() -> dict[str, Any]:
            self.open.remove(claim)
            return in_error("by design", 1.0)

        future = SimpleNamespace(key=key, add_done_callback=add_done_callback, result=result)
        self.open.append(claim)
        self.most = max(self.most, len(self.open))
        self.given[claim] = given
        return future

    def cancel(self, futures: list[Any], force: bool) -> None:
        self.after.append(futures)

    def run(self, task: Any, name: str, on_error: str) -> None:
        self.after.append(task)


@pytest.mark.parametrize(("jobs", "most", "processes"), [(None, 3, 2), (1, 1, 1), (9, 3, 3)])
def test_as_many_are_in_flight_as_jobs_are_given_and_threads_to_spare_are_shared_out(
    tmp_path: Path, jobs: int | None, most: int, processes: int
) -> None:
    client: Any = Answering()
    told: list[str] = []
    asked = Asked("quick", 0, FAKES, store=tmp_path)
    outcomes = run_claims(
        fakes.SAMPLED,
        asked,
        Cluster(client, 7, jobs),
        on_start=lambda claim: told.append(claim.id),
        on_share=lambda *late: pytest.fail(f"{late} is no news"),
    )
    assert [outcome.reason for outcome in outcomes] == ["by design"] * 3
    assert told == [claim.id for claim in fakes.SAMPLED]
    assert (client.open, client.most) == ([], most)
    # What workers cannot write to is not given to them.
    assert {(given[0].store, given[1]) for given in client.given.values()} == {(None, processes)}
    assert client.after == ["unsubscribed", [], on_worker.end_lanes]


class Ended:
    """A future whose task has raised, or that the scheduler has forgotten."""

    def __init__(self, status: str, raised: Exception) -> None:
        self.status, self.raised = status, raised

    def result(self) -> Any:
        raise self.raised


def test_what_dask_makes_of_a_task_is_the_claim_s_error_or_the_crew_s_end() -> None:
    client: Any = None
    crew = Cluster(client, 1)

    def reason(raised: Exception, status: str = "error") -> str:
        ended: Any = Ended(status, raised)
        return str(crew._fields(ended, 1.0)["reason"])

    killed = distributed.KilledWorker("task", SimpleNamespace(address="tcp://host:1"), 3)
    assert reason(killed).startswith("the worker process died: Attempted to run task 'task' on 4")
    assert reason(OSError("too many open files")) == "OSError: too many open files"
    with pytest.raises(CrewLost, match=r"the cluster gave the claims up \(in the middle\)"):
        reason(OSError("in the middle"), status="finished")


def test_a_lane_rests_for_the_next_claim_of_its_run_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Resting:
        def __init__(self, gpu: int) -> None:
            self.gpu = gpu

        def stop(self) -> None:
            ended.append(self.gpu)

    ended: list[int] = []
    lanes: list[Any] = [Resting(gpu) for gpu in range(3)]
    resting = RestingLanes()
    for lane in lanes[:2]:
        resting.rest(lane, "run")
    assert resting.take("other", 0) is None
    assert resting.take("run", 2) is None
    assert resting.take("run", 1) is lanes[1]
    assert resting.take("run", 1) is None
    resting.end("other")
    assert ended == []
    resting.end("run")
    assert ended == [0]
    monkeypatch.setattr("claims.running.resting.PATIENCE_SECONDS", 0.05)
    resting.rest(lanes[2], "run")
    time.sleep(0.5)
    assert ended == [0, 2]
    assert resting.take("run", 2) is None


def test_each_claim_on_a_worker_has_the_first_gpu_that_is_free() -> None:
    with on_worker._gpu("cuda") as one:
        with on_worker._gpu("cuda") as other:
            assert (one, other) == (0, 1)
        with on_worker._gpu("cuda") as other, on_worker._gpu("cpu") as none:
            assert (other, none) == (1, None)


def test_a_worker_has_no_more_threads_than_gpus() -> None:
    gpus = {"tcp://one": ("A", "A"), "tcp://other": ("A",)}
    cluster._require_a_gpu_each({"tcp://one": 1, "tcp://other": 1}, gpus)
    with pytest.raises(ValueError, match="the worker tcp://other has 2 threads and 1 GPUs"):
        cluster._require_a_gpu_each({"tcp://one": 2, "tcp://other": 2}, gpus)
