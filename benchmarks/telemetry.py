"""What traces cost the inference service: throughput and lone requests, with them and without, in turns.

`make bench-telemetry`: a server without traces beside servers that keep all, or a tenth of them, and send
them to a receiver on this machine, and one whose receiver is away. All write their access log, to a file, run at
the same time and are asked in turns, in rounds so short that what else the machine does falls on all of them; each
server is compared with the one without traces in the same round. Those with traces are scraped as well, as a
Prometheus would. Two equal processes differ, too: all are started several times, and a second server without traces
shows what of a difference is chance. The network of all these computes next to nothing, as chance is less beside it
than beside a real one, and the spans are the same; a last server has the built-in model, to tell what part of a real
request they are. The table goes to standard output, and below it whether traces cost less than they may.
"""

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from PIL import Image, ImageOps
from torch import nn

from benchmarks.inference.contenders import TOKEN_SECONDS
from benchmarks.inference.load import Load, Outcome
from benchmarks.inference.processes import run_load, tree
from benchmarks.trace_costs import BUILT_IN, OFF, OFF_TOO, Figures, Round, report
from tests import http_server
from tests.issuer import AUDIENCE, ISSUER, Issuer, serve_issuer
from tests.servers import Server, serving
from tests.unit.inference.weight_files import exported

AWAY = "all, receiver away"
SHARES: Mapping[str, str | None] = {OFF: None, "all": "1", "a tenth": "0.1", AWAY: "1", OFF_TOO: None, BUILT_IN: None}
"""The share of the traces that is kept, by arm."""

NOBODY = "http://127.0.0.1:9"
"""The port of a service that nothing runs: who connects is refused at once."""

CALLERS = 8
LONE_RATE = 15.0
"""Requests a second at even times, of which each is answered before the next: what a service does after its answer
is no part of a lone request."""
WARM_SECONDS = 0.3
SCRAPE_SECONDS = 5.0
PICTURE = Path(__file__).parents[1] / "tests" / "data" / "chelsea.png"
SIDE = 224
"""Of what is sent, a JPEG: what the model takes, so that little is to be done."""
APP = "inference_service.main:create_app()"


def main() -> None:
    """Print the medians of each arm, its differences from the one without traces, and what that means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3, help="of all servers")
    parser.add_argument("--rounds", type=int, default=6, help="after each start")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one window; a round has two an arm")
    parser.add_argument("--mode", default="eager", help="INFERENCE_MODE of all servers (default eager)")
    options = parser.parse_args()
    began = time.monotonic()
    rounds: list[Round] = []
    for start in range(options.starts):
        print(f"start {start + 1} of {options.starts}", file=sys.stderr)
        with _servers(options.mode) as (servers, load):
            rounds += _measure(servers, replace(load, seconds=options.seconds), rounds=options.rounds)
    minutes = (time.monotonic() - began) / 60
    print(f"{options.starts} starts, {len(rounds)} rounds, windows of {options.seconds:g} s, mode {options.mode},")
    print(f"{os.cpu_count()} CPUs, {minutes:.0f} min. Differences are medians, with their intervals of 95 %.\n")
    if skipped := options.starts * options.rounds - len(rounds):
        print(f"Left out: {skipped} rounds, in which a server answered nothing in time.\n")
    if not rounds:
        raise SystemExit("there is nothing to compare: take longer windows (--seconds)")
    for line in report(rounds):
        print(line)


def _write_small_model(folder: Path) -> Path:
    """Write a network that tells pictures apart by their mean colour, and the `models.yaml` that names it."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000))
    exported(folder / "small.pt2", network, side=SIDE)
    models_file = folder / "models.yaml"
    models_file.write_text(
        "models:\n"
        "  - {name: small, source: 'file:small.pt2', labels: imagenet,"
        f" preprocessing: {{resize_size: {SIDE}, crop_size: {SIDE}}}}}\n"
    )
    return models_file


@contextmanager
def _servers(mode: str) -> Iterator[tuple[Mapping[str, Server], Load]]:
    """Start one server an arm; yield them, and what to ask each of them."""
    with TemporaryDirectory() as folder, serve_issuer() as issuer, _sink() as receiver, ExitStack() as stack:
        servers: dict[str, Server] = {}
        small = {"INFERENCE_MODELS_FILE": str(_write_small_model(Path(folder)))}
        for arm, share in SHARES.items():
            variables = _variables(issuer, mode) | _tracing(NOBODY if arm == AWAY else receiver, share)
            variables |= {} if arm == BUILT_IN else small
            own = Path(folder) / arm
            own.mkdir()
            output = stack.enter_context((own / "log").open("w"))
            servers[arm] = stack.enter_context(serving(APP, variables, folder=own, errors=output))
            servers[arm].wait_until_ready()
        stack.enter_context(_scraping([server for arm, server in servers.items() if SHARES[arm] is not None]))
        expires_at = issuer.claims()["iat"] + TOKEN_SECONDS
        picture = Path(folder) / "picture.jpg"
        with Image.open(PICTURE) as file:
            ImageOps.fit(file.convert("RGB"), (SIDE, SIDE)).save(picture, quality=90)
        yield (
            servers,
            Load(
                port=0,
                path="/predict",
                pictures=[str(picture)],
                headers=dict(issuer.bearer(scope="inference:predict", exp=expires_at)),
                warm_seconds=WARM_SECONDS,
            ),
        )


def _measure(servers: Mapping[str, Server], load: Load, *, rounds: int) -> Iterator[Round]:
    """Yield the rounds in which every server has answered."""
    arms = list(servers)
    for number in range(rounds + 1):
        # Each arm comes as often first as last. What is first of all warms up.
        asked = {arm: _figures(servers[arm], load) for arm in (arms if number % 2 else arms[::-1])}
        answered = {arm: figures for arm in arms if (figures := asked[arm]) is not None}
        if number and len(answered) == len(arms):
            yield answered


def _figures(server: Server, load: Load) -> Figures | None:
    """Ask a server for two windows; None where it answered nothing within one of them."""
    used = _cpu_seconds(server)
    many = _ask(server, replace(load, concurrency=CALLERS))
    used = _cpu_seconds(server) - used
    lone = _ask(server, replace(load, rate=LONE_RATE))
    if not many.latencies or not lone.latencies:
        return None
    rate = len(many.latencies) / many.seconds
    # All that were sent were computed, those before and after the time that is counted, too.
    spent = used / (rate * (many.seconds + WARM_SECONDS) + CALLERS)
    return Figures(rate, statistics.median(lone.latencies), spent)


def _ask(server: Server, load: Load) -> Outcome:
    outcome = run_load(replace(load, port=server.port))
    if outcome.failed:
        raise SystemExit(f"{outcome.failed} requests failed, {len(outcome.latencies)} were answered")
    return outcome


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


def _sink() -> AbstractContextManager[str]:
    """Take spans, as fast as that can be done."""

    class Handler(http_server.QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.respond(200, b"")

    return http_server.serving(Handler)


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
