"""What traces cost the inference service: throughput and lone requests, with them and without, in turns.

`python -m benchmarks.telemetry`: a server without traces beside servers that keep all, or a tenth of them, and send
them to a receiver on this machine, and one whose receiver is away. All write their access log, to a file, and run at
the same time and are asked in turns, in rounds so short that what else
the machine does falls on all of them; each round is compared with the round without traces beside it. The servers
with traces are scraped as well, as a Prometheus would. Two equal processes differ, too: all are started several times,
and a second server without traces shows what of a difference is chance.
"""

import argparse
import os
import statistics
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.inference.contenders import TOKEN_SECONDS
from benchmarks.inference.load import Load, Outcome
from benchmarks.inference.processes import run_load, tree
from tests.issuer import AUDIENCE, ISSUER, Issuer, serve_issuer
from tests.servers import Server, serving

OFF = "off"
AWAY = "all, receiver away"
SHARES: Mapping[str, str | None] = {OFF: None, "all": "1", "a tenth": "0.1", AWAY: "1", "off, too": None}
"""The share of the traces that is kept, by arm."""

NOBODY = "http://127.0.0.1:9"
"""The port of a service that nothing runs: who connects is refused at once."""

CALLERS = 8
WARM_SECONDS = 0.3
SCRAPE_SECONDS = 5.0
PICTURE = Path(__file__).parents[1] / "tests" / "data" / "chelsea.png"
APP = "inference_service.main:create_app()"


def main() -> None:
    """Print the medians of each arm, and of its differences from the rounds without traces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3, help="of all servers")
    parser.add_argument("--rounds", type=int, default=10, help="after each start")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--mode", default="eager", help="INFERENCE_MODE of all servers (default eager)")
    options = parser.parse_args()
    measured: Measured = defaultdict(list)
    for start in range(options.starts):
        print(f"start {start + 1} of {options.starts}", file=sys.stderr)
        with TemporaryDirectory() as folder, serve_issuer() as issuer, _sink() as receiver, ExitStack() as stack:
            servers: dict[str, Server] = {}
            for arm, share in SHARES.items():
                variables = _variables(issuer, options.mode) | _tracing(NOBODY if arm == AWAY else receiver, share)
                own = Path(folder) / arm
                own.mkdir()
                output = stack.enter_context((own / "log").open("w"))
                servers[arm] = stack.enter_context(serving(APP, variables, folder=own, errors=output))
                servers[arm].wait_until_ready()
            stack.enter_context(_scraping([server for arm, server in servers.items() if SHARES[arm] is not None]))
            expires_at = issuer.claims()["iat"] + TOKEN_SECONDS
            headers = dict(issuer.bearer(scope="inference:predict", exp=expires_at))
            _measure(servers, headers, measured, rounds=options.rounds, seconds=options.seconds)
    print(f"{options.starts} starts, {options.rounds} rounds of {options.seconds:g} s each, mode {options.mode}\n")
    print("| traces | requests/s | against off | a lone request, ms | against off | CPU ms a request | against off |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for line in _lines(measured):
        print(line)


Measured = dict[str, list[tuple[float, float, float]]]
"""For each arm, in each round: requests a second, the median seconds of a lone request, and those of the processor
for one request, which tell more than the others where the machine has other work."""


def _measure(
    servers: Mapping[str, Server], headers: dict[str, str], measured: Measured, *, rounds: int, seconds: float
) -> None:
    arms = list(servers)
    for number in range(rounds + 1):
        # Each arm comes as often first as last. What is first of all warms up.
        for arm in arms if number % 2 else reversed(arms):
            used = _cpu_seconds(servers[arm])
            many = _ask(servers[arm], headers, CALLERS, seconds)
            used = _cpu_seconds(servers[arm]) - used
            lone = _ask(servers[arm], headers, 1, seconds)
            if number:
                rate = len(many.latencies) / many.seconds
                # All that were sent were computed, those before and after the time that is counted, too.
                spent = used / (rate * (many.seconds + WARM_SECONDS) + CALLERS)
                measured[arm].append((rate, statistics.median(lone.latencies), spent))


def _ask(server: Server, headers: dict[str, str], callers: int, seconds: float) -> Outcome:
    outcome = run_load(
        Load(
            port=server.port,
            path="/predict",
            pictures=[str(PICTURE)],
            headers=headers,
            seconds=seconds,
            warm_seconds=WARM_SECONDS,
            concurrency=callers,
        )
    )
    if outcome.failed or not outcome.latencies:
        raise SystemExit(f"{outcome.failed} requests failed, {len(outcome.latencies)} were answered")
    return outcome


def _lines(measured: Measured) -> Iterator[str]:
    for arm, rounds in measured.items():
        pairs = list(zip(rounds, measured[OFF], strict=True))
        rate, lone, spent = (statistics.median(column) for column in zip(*rounds, strict=True))
        slower = statistics.median(1 - mine[0] / off[0] for mine, off in pairs)
        longer = statistics.median(mine[1] - off[1] for mine, off in pairs)
        dearer = statistics.median(mine[2] / off[2] - 1 for mine, off in pairs)
        against = ("", "", "") if arm == OFF else (f"{-slower:+.1%}", f"{longer * 1000:+.2f} ms", f"{dearer:+.1%}")
        yield (
            f"| {arm} | {rate:.1f} | {against[0]} | {lone * 1000:.2f} | {against[1]} "
            f"| {spent * 1000:.2f} | {against[2]} |"
        )


def _cpu_seconds(server: Server) -> float:
    """Return what a server has used of the processor, with all its processes."""
    ticks = 0
    for process in tree(server.process.pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _variables(issuer: Issuer, mode: str) -> dict[str, str]:
    return {
        "INFERENCE_ISSUER": ISSUER,
        "INFERENCE_AUDIENCE": AUDIENCE,
        "INFERENCE_AUTH_URL": issuer.url,
        "INFERENCE_CACHE_MAX_BYTES": "0",
        "INFERENCE_MODE": mode,
        "INFERENCE_MODE_SEARCH_SECONDS": "0",
        "INFERENCE_CANARY_SECONDS": "3600",
    }


def _tracing(receiver: str, share: str | None) -> dict[str, str]:
    if share is None:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": share,
    }


@contextmanager
def _sink() -> Iterator[str]:
    """Take spans, as fast as that can be done."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, name="sink", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def _scraping(servers: list[Server]) -> Iterator[None]:
    """Read the metrics of some servers again and again."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(SCRAPE_SECONDS):
            for server in servers:
                httpx.get(f"{server.url}/metrics").raise_for_status()

    scraper = threading.Thread(target=scrape, name="scraper")
    scraper.start()
    try:
        yield
    finally:
        ended.set()
        scraper.join()


if __name__ == "__main__":
    main()
