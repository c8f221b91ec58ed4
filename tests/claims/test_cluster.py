"""A run on a Dask cluster: what it comes to here, and how it ends where something is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import paper_checks
from claims.registry import Claim
from claims.results import Recorder, read_results
from claims.results.provenance import run_header
from claims.running import cluster, here, on_worker
from claims.running.cluster import Cluster
from claims.running.crew import Asked, CrewLost, News
from claims.running.many import run_claims
from claims.running.on_worker import NotAsked, run_there, surroundings
from claims.running.one import run_claim
from tests.claims import fakes
from tests.claims.test_running import ASKED, FAKES
from tests.test_paper_checks import ROOT, InProcess, call, refuse

distributed = pytest.importorskip("distributed")
NOBODY = "tcp://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _fake_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_checks, "REGISTRY_MODULE", FAKES)


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as started:
        yield started


def test_a_run_goes_on_on_a_cluster_and_comes_to_what_it_comes_to_here(
    two_workers: Any, tmp_path: Path
) -> None:
    first, second, _ = fakes.SAMPLED
    stopped = Recorder(tmp_path, run_header("quick", 0, 1, "paper_checks.py"))
    stopped.record(run_claim(first, "quick", 0))
    address = two_workers.scheduler_address
    result = call(
        "--only", "random.sampled-[ab]", "--only", "fatal.*", "--only", "work.*",
        "--scheduler", address, "--out", tmp_path, "--resume",
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    assert "Resuming: 1 of 4 claims are recorded." in result.output
    assert "Cluster of 2 threads.\nFlows:" in result.output
    results = read_results(tmp_path)
    assert results.run["jobs"] == 2
    assert results["fatal.dying"].reason == "the worker process died (killed by SIGKILL)"
    # What a claim keeps on its way is kept here, where the workers can write.
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["0.part"]
    # To the last bit, in numbers and arrays.
    there = results[second.id]
    alone = Recorder(tmp_path / "here", {**results.run}).record(run_claim(second, "quick", 0))
    assert there.measurements == alone.measurements
    assert {name: array.tobytes() for name, array in there.arrays("").items()} == {
        name: array.tobytes() for name, array in alone.arrays("").items()
    }


def test_a_cluster_without_gpus_is_wrong_usage(two_workers: Any, tmp_path: Path) -> None:
    address = two_workers.scheduler_address
    out = tmp_path / "out"
    refuse("finds no GPU here", "--scheduler", address, "--device", "cuda", "--out", out)
    assert list(tmp_path.iterdir()) == []


def started_by(*pids: int) -> list[psutil.Process]:
    found = [each for pid in pids for each in psutil.Process(pid).children(recursive=True)]
    assert found
    return found


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there after a while."""
    return list(psutil.wait_procs(processes, timeout=10)[1])


def test_news_come_as_claims_go_and_an_interruption_ends_them(two_workers: Any) -> None:
    told: list[Any] = []
    lanes: list[psutil.Process] = []

    def interrupt(claim: Claim, share: float) -> None:
        told.append((claim.id, share))
        lanes.extend(started_by(*(nanny.pid for nanny in two_workers.workers.values())))
        raise KeyboardInterrupt

    with distributed.Client(two_workers, set_as_default=False) as client:
        crew = Cluster(client, 2)
        assert crew.remarks[1].endswith("parts of a claim are not kept.")
        with pytest.raises(KeyboardInterrupt):
            run_claims(
                [fakes.STAYING],
                ASKED,
                crew,
                on_start=lambda claim: told.append(claim.id),
                on_share=interrupt,
            )
        assert told == ["slow.staying", ("slow.staying", 0.25)]
        assert left_of(lanes) == []


def dask(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=ROOT)


def test_a_scheduler_that_is_killed_is_told_and_no_process_is_left(tmp_path: Path) -> None:
    file = str(tmp_path / "scheduler.json")
    scheduler = dask("scheduler", "--scheduler-file", file, "--port", "0", "--no-dashboard")
    worker = dask("worker", "--scheduler-file", file, "--nthreads", "2", "--no-dashboard")
    begun: list[psutil.Process] = []

    def kill(*_: object) -> None:
        begun.extend(started_by(worker.pid))
        scheduler.kill()

    try:
        with distributed.Client(scheduler_file=file, set_as_default=False) as client:
            crew = Cluster(client, 2)
            with pytest.raises(CrewLost, match=r"gave the claims up \(scheduler-conn"):
                run_claims([fakes.STAYING], ASKED, crew, on_share=kill)
        assert left_of(begun) == []
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_a_run_that_lost_its_crew_says_why_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(InProcess):
        def run(self, claims: Sequence[Claim], asked: Asked) -> Generator[News, None, None]:
            yield from super().run(claims[:1], asked)
            raise CrewLost("the cluster gave the claims up")

    monkeypatch.setattr(here, "on_this_machine", lambda *_, **__: nullcontext(Lost()))
    result = call("--only", "fake.*", "--out", tmp_path)
    assert result.exit_code == 130, result.output
    assert (
        f"Interrupted, for the cluster gave the claims up; 1 claims stand in {tmp_path}. "
        "Go on with --resume." in result.output
    )
    assert len(read_results(tmp_path)) == 1


class Workers:
    """A client of workers that answer as they are told to."""

    def __init__(self, *answers: Any, **scheduler: str) -> None:
        self.answers = {f"tcp://worker-{i}": answer for i, answer in enumerate(answers)}
        self._packages = {"dask": surroundings()["dask"]} | scheduler

    def get_versions(self) -> Any:
        ours = {"distributed": surroundings()["distributed"]}
        return {"scheduler": {"packages": ours | self._packages}}

    def run(self, *_: Any, on_error: str) -> dict[str, Any]:
        assert on_error == "return"
        return self.answers


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (Workers(surroundings(), dask="1.0"), "the scheduler has dask 1.0 (here "),
        (
            Workers(surroundings(), surroundings() | {"numpy": "1.0", "code": "0123"}),
            "the worker tcp://worker-1 has code 0123 (here ",
        ),
        (
            Workers(surroundings(), ModuleNotFoundError("No module named 'claims'")),
            "tcp://worker-1 cannot load this code, which has to be installed there "
            "(1 of 2 workers): No module named 'claims'",
        ),
    ],
)
def test_workers_that_are_not_as_this_machine_are_refused(client: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        cluster._require_same(client)


def test_workers_that_are_as_this_machine_are_taken() -> None:
    cluster._require_same(Workers(surroundings(), surroundings()))  # type: ignore[arg-type]


def test_a_worker_that_came_late_with_other_code_runs_nothing() -> None:
    with pytest.raises(NotAsked, match=r"this worker has code \w+ \(here 0123\)"):
        run_there("fake.passing", ASKED, 1, surroundings() | {"code": "0123"}, "topic")


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

    killed = distributed.KilledWorker("task", SimpleNamespace(address=NOBODY), 3)
    assert reason(killed).startswith("the worker process died: Attempted to run task 'task' on 4")
    assert reason(OSError("too many open files")) == "OSError: too many open files"
    with pytest.raises(CrewLost, match=r"the cluster gave the claims up \(in the middle\)"):
        reason(OSError("in the middle"), status="finished")


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


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (NOBODY, f"no scheduler at {NOBODY!r}: Timed out"),
        ("nonsense", "no scheduler at 'nonsense': missing port number"),
        ("foo://host:1", "unknown address scheme 'foo'"),
    ],
)
def test_an_address_without_a_scheduler_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    refuse(said, "--scheduler", address, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_without_workers_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty:
        address = empty.scheduler_address
        refuse(f"has no workers; start some, `dask worker {address}`", "--scheduler", address)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    refuse("pip install 'paper-checks[cluster]'", "--scheduler", NOBODY)
