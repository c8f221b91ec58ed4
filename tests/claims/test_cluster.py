"""A run on a Dask cluster: what it comes to here, and how it ends where something is wrong."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import paper_checks
from claims.registry import Claim
from claims.results import Recorder, read_results
from claims.results.provenance import run_header
from claims.running import cluster, here
from claims.running.cluster import Cluster, on_cluster
from claims.running.crew import Asked, CrewLost, News
from claims.running.many import run_claims
from claims.running.one import run_claim
from tests.claims import fakes
from tests.claims.test_running import ASKED, FAKES
from tests.command_line import ROOT, InProcess, call, refuse

distributed = pytest.importorskip("distributed")
# Dask brings it along.
psutil = pytest.importorskip("psutil")
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
    assert "Resuming: 1 of 4 claims recorded." in result.output
    assert "Cluster of 2 threads.\nFlows:" in result.output
    results = read_results(tmp_path)
    assert results.run["jobs"] == 2
    assert results["fatal.dying"].reason.startswith("the worker process died (killed by SIGKILL")
    # What a claim keeps on its way is kept here, where the workers can write.
    assert [path.name for path in (tmp_path / "cells" / "quick").iterdir()] == [fakes.part_name(0)]
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


def started_by(*pids: int) -> list[Any]:
    found = [each for pid in pids for each in psutil.Process(pid).children(recursive=True)]
    assert found
    return found


def left_of(processes: list[Any]) -> list[Any]:
    """Those that are still there after a while."""
    return list(psutil.wait_procs(processes, timeout=10)[1])


def test_news_come_as_claims_go_and_an_interruption_ends_them(two_workers: Any) -> None:
    told: list[Any] = []
    lanes: list[Any] = []

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


def test_a_scheduler_that_is_killed_is_told_and_no_process_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("distributed"), "propagate", True)
    file = str(tmp_path / "scheduler.json")
    scheduler = dask("scheduler", "--scheduler-file", file, "--port", "0", "--no-dashboard")
    worker = dask("worker", "--scheduler-file", file, "--nthreads", "2", "--no-dashboard")
    begun: list[Any] = []

    def kill(*_: object) -> None:
        begun.extend(started_by(worker.pid))
        scheduler.kill()

    try:
        with distributed.Client(scheduler_file=file, set_as_default=False) as client:
            address = client.scheduler.address
        lost = pytest.raises(CrewLost, match=r"gave the claims up \(scheduler-conn")
        with lost, on_cluster(address, ASKED) as crew:
            run_claims([fakes.STAYING], ASKED, crew, on_share=kill)
        assert left_of(begun) == []
        # dask's own handlers show them, with a traceback each.
        assert [each for each in caplog.records if each.levelname == "ERROR"] == []
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
        f"Interrupted, for the cluster gave the claims up; 1 claim stands in {tmp_path}. "
        "Go on with --resume." in result.output
    )
    assert len(read_results(tmp_path)) == 1


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


def test_what_listens_but_is_no_scheduler_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        refuse("does not answer as a scheduler does", "--scheduler", address)


def test_a_cluster_without_workers_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty:
        address = empty.scheduler_address
        refuse(f"has no workers; start some, `dask worker {address}`", "--scheduler", address)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    refuse("pip install -c constraints.txt -e '.[cluster]'", "--scheduler", NOBODY)
