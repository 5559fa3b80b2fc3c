"""Compares the inference service with other servers: `python -m benchmarks.inference --help`."""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.inference.contenders import (
    CORES,
    Contender,
    calibrate,
    contenders,
    environment_of,
    make_environment,
)
from benchmarks.inference.load import Load
from benchmarks.inference.pictures import write_pictures, write_weights
from benchmarks.inference.processes import NotServing, Running, free_port, memory_bytes, run_load, serving
from benchmarks.inference.results import Limit, Overload, Results, Row, Throughput, percentile
from benchmarks.inference.tables import report
from tests.issuer import serve_issuer

CONCURRENCY = 32
DEADLINE_SECONDS = 2.0
LONE_SECONDS = 3.0
IDLE_SECONDS = 2.0
MODE_SEARCH_SECONDS = 330.0
PEERS = ("litserve", "bentoml", "ray")


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    factors: Sequence[int]
    widths: Sequence[int]
    """Of the pictures; 640 is among them."""

    states_deadlines: bool = True
    """Whether callers say how long they wait, to a server that can be told."""


FULL = Plan(rounds=2, seconds=10.0, factors=(1, 2, 3), widths=(640, 1920))
QUICK = Plan(rounds=1, seconds=6.0, factors=(1, 3), widths=(640,))


class Benchmark:
    """One run of all rounds."""

    def __init__(self, plan: Plan, folder: Path, pictures: dict[int, list[Path]], results: Results) -> None:
        self._plan = plan
        self._folder = folder
        self._pictures = {
            width: [str(path) for path in paths] for width, paths in pictures.items() if width in plan.widths
        }
        self._results = results

    def measure(self, contender: Contender, row: Row, *, last: bool) -> None:
        """Measure one server: its start, its memory, one caller, many, and in the last round too many."""
        first = self._load(contender, free_port(), 640)
        log = self._folder / f"{contender.name}.log"
        with serving(contender.command(first.port), environment_of(contender, first.port), first, log) as server:
            row.start_seconds.append(server.start_seconds)
            if contender.is_ours:
                row.mode = _mode(contender, server.port)
            time.sleep(IDLE_SECONDS)
            row.idle_bytes = memory_bytes(server.process)
            for width in self._pictures:
                with server.peak() as peak:
                    self._closed_loops(contender, server, row, width)
                found = row.throughput[width]
                found.peak_bytes = max(found.peak_bytes, peak[0])
            if last:
                self._overload(contender, server, row)

    def settle(self, contender: Contender) -> None:
        """Start a server once, and let it find the mode that its later starts take, and compile it.

        Raises:
            NotServing: it still searches when its search should be over.
        """
        first = self._load(contender, free_port(), 640)
        log = self._folder / f"{contender.name}.log"
        with serving(contender.command(first.port), environment_of(contender, first.port), first, log) as server:
            gives_up_at = time.monotonic() + MODE_SEARCH_SECONDS
            is_set = not contender.environment["INFERENCE_MODE"].startswith("auto")
            while not (found := _details(contender, server.port))["modes"] and not is_set:
                if time.monotonic() > gives_up_at:
                    raise NotServing("it still searches for its mode")
                time.sleep(1)
            _say(f"{contender.title}: {found['mode']} of {_measurements(found) or 'those that are set'}")

    def limit(self, contender: Contender, mode: str, width: int) -> Limit:
        """Measure what torch gets done in a mode."""
        command = [sys.executable, "-m", "benchmarks.inference.limit", str(contender.models_file), "--mode", mode]
        command += ["--modes-dir", contender.environment["INFERENCE_MODES_DIR"]]
        command += ["--cores", str(CORES), "--seconds", str(self._plan.seconds)]
        command += self._pictures[width]
        # As in the service: threads that wait for each other would take the cores from those that prepare pictures.
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
        found = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        return Limit(mode=mode, width=width, **found)

    def _load(self, contender: Contender, port: int, width: int) -> Load:
        return Load(port=port, path="/predict", pictures=self._pictures[width], headers=dict(contender.headers))

    def _closed_loops(self, contender: Contender, server: Running, row: Row, width: int) -> None:
        load = self._load(contender, server.port, width)
        found = row.throughput.setdefault(width, Throughput())
        lone = run_load(replace(load, concurrency=1, seconds=LONE_SECONDS, warm_seconds=1.0))
        found.lone_seconds.append(percentile(lone.latencies, 0.5))
        if lone.beside_work:
            found.lone_beside_work_seconds.append(percentile(lone.beside_work, 0.5))
        many = run_load(replace(load, concurrency=CONCURRENCY, seconds=self._plan.seconds, warm_seconds=2.0))
        found.images_per_second.append(many.in_time / many.seconds)
        found.latencies += many.latencies
        found.failed += many.failed + many.refused + many.late
        found.load_cores = many.cpu_seconds / (many.seconds + 2.0)

    def _overload(self, contender: Contender, server: Running, row: Row) -> None:
        load = replace(self._load(contender, server.port, 640), deadline_seconds=DEADLINE_SECONDS)
        if contender.deadline_header and self._plan.states_deadlines:
            load = replace(load, headers={**load.headers, contender.deadline_header: f"{DEADLINE_SECONDS:g}"})
        capacity = row.throughput[640].images_per_second[-1]
        recovered_seconds = 2 * row.throughput[640].lone_seconds[-1] + 0.05
        for factor in self._plan.factors:
            with server.peak() as peak:
                found = run_load(
                    replace(
                        load, rate=factor * capacity, seconds=self._plan.seconds, recovered_seconds=recovered_seconds
                    )
                )
            row.overload.append(
                Overload(
                    factor=factor,
                    rate=factor * capacity,
                    goodput=found.in_time / found.seconds,
                    p99_seconds=percentile(found.latencies, 0.99),
                    accepted=len(found.latencies),
                    refused=found.refused,
                    late=found.late,
                    failed=found.failed,
                    peak_bytes=peak[0],
                    recovery_seconds=found.recovery_seconds,
                )
            )

    def run(self, chosen: Sequence[Contender]) -> None:
        """Run all rounds: in each one, every server, and then the limits of the modes that were seen."""
        rows = {row.name: row for row in self._results.rows}
        for contender in chosen:
            if contender.is_slow_at_first:
                _say(f"{contender.title}: first start")
                try:
                    self.settle(contender)
                except NotServing as error:
                    rows[contender.name].problem = str(error)
        for number in range(self._plan.rounds):
            self._results.load_averages.append(os.getloadavg()[0])
            for contender in chosen:
                row = rows[contender.name]
                if row.problem is None:
                    _say(f"round {number + 1} of {self._plan.rounds}: {contender.title}")
                    try:
                        self.measure(contender, row, last=number + 1 == self._plan.rounds)
                    except (NotServing, subprocess.SubprocessError) as error:
                        row.problem = str(error)
            self._compare([(contender, rows[contender.name]) for contender in chosen])

    def _compare(self, measured: Sequence[tuple[Contender, Row]]) -> None:
        """Measure the limits of this round, and compare the rows with them."""
        ours: dict[str, list[tuple[Contender, Row]]] = {}
        for contender, row in measured:
            if row.mode is not None and row.problem is None:
                ours.setdefault(row.mode, []).append((contender, row))
        for mode, pairs in ours.items():
            _say(f"limit: {mode}")
            for width in self._pictures:
                limit = self.limit(pairs[0][0], mode, width)
                self._results.limits.append(limit)
                for _, row in pairs:
                    found = row.throughput[width]
                    found.of_limit.append(found.images_per_second[-1] / limit.images_per_second)
                    found.lone_over_limit_seconds.append(found.lone_seconds[-1] - limit.lone_seconds)


def _details(contender: Contender, port: int) -> dict[str, Any]:
    answer = httpx.get(f"http://127.0.0.1:{port}/models/resnet50", headers=dict(contender.headers), timeout=30)
    details: dict[str, Any] = answer.raise_for_status().json()
    return details


def _measurements(details: dict[str, Any]) -> str:
    """Return what a search has found, in words."""
    return ", ".join(
        f"{found['mode']} ({found.get('reason') or format(found['images_per_second'], '.1f')})"
        for found in details["modes"]
    )


def _mode(contender: Contender, port: int) -> str:
    mode: str = _details(contender, port)["mode"]
    return mode


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "cores": CORES, "processor": model, "memory_bytes": memory}


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text} (load average {os.getloadavg()[0]:.2f})", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, with the smaller pictures alone")
    parser.add_argument("--only", help="names of servers, with commas between them")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="how long each load lasts")
    parser.add_argument("--no-overload", action="store_true", help="leave the open loops out")
    parser.add_argument("--silent", action="store_true", help="callers do not say when they will hang up")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"), help="folder of the results")
    return parser.parse_args()


def main() -> None:
    """Measure, and print and keep what was found."""
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    plan = Plan(
        arguments.rounds or plan.rounds,
        arguments.seconds or plan.seconds,
        () if arguments.no_overload else plan.factors,
        plan.widths,
        states_deadlines=not arguments.silent,
    )
    started = time.monotonic()
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:CORES]))
    output: Path = arguments.output.resolve()
    environments = output / "environments"
    environments.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pinhole-benchmark-") as temporary, serve_issuer() as issuer:
        folder = Path(temporary)
        chosen = contenders(folder, write_weights(folder), issuer, environments)
        if arguments.only:
            names = arguments.only.split(",")
            chosen = [contender for contender in chosen if contender.name in names]
        for name in ("chart", *PEERS):
            if name == "chart" or any(contender.name == name for contender in chosen):
                make_environment(name, environments)
        results = Results(_machine(), [Row(contender.name, contender.title) for contender in chosen])
        results.deadline_seconds = DEADLINE_SECONDS
        benchmark = Benchmark(plan, folder, write_pictures(folder), results)
        if any(contender.name == "pinhole-int8" for contender in chosen):
            _say("calibrating for int8")
            calibrate(folder, folder / "640")
        try:
            benchmark.run(chosen)
        except subprocess.SubprocessError as error:
            _say(f"stopped early, with what was measured until then: {error}")
        finally:
            for log in folder.glob("*.log"):
                with contextlib.suppress(OSError):
                    (output / log.name).write_bytes(log.read_bytes())
    results.spent_seconds = time.monotonic() - started
    text = report(results)
    print(text)
    (output / "results.json").write_text(json.dumps(asdict(results), indent=1))
    (output / "results.md").write_text(text + "\n")
    chart = environments / "chart" / "bin" / "python"
    subprocess.run(
        [chart, Path(__file__).with_name("chart.py"), output / "results.json", output / "results.svg"], check=True
    )


if __name__ == "__main__":
    main()
