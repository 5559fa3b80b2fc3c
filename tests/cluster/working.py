"""A stand-in for the service that computes: each request is work for as long as it asks, and is in its metrics."""

from itertools import pairwise

import httpx

from tests.cluster.releases import Object, Release, echo
from tests.cluster.traffic import traffic

WORK = """
import http.server, signal, sys, threading, time, urllib.parse

lock = threading.Lock()
in_flight = 0
busy_seconds = 0.0

class Working(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global in_flight, busy_seconds
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        seconds = float(query.get("seconds", 0))
        spun_at = time.thread_time() + float(query.get("cpu_seconds", 0))
        body = b"done"
        if url.path == "/metrics":
            body = (
                f"# TYPE inference_requests_in_flight gauge\\ninference_requests_in_flight {in_flight}\\n"
                "# TYPE inference_device_busy_seconds_total counter\\n"
                f'inference_device_busy_seconds_total{{device="cpu"}} {busy_seconds}\\n'
            ).encode()
        elif seconds:
            with lock:
                in_flight += 1
            time.sleep(seconds)
            with lock:
                in_flight -= 1
                busy_seconds += seconds / 10
        while time.thread_time() < spun_at:
            pass
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False

server = Server(("", 8000), Working)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"""
"""At SIGTERM it takes no more requests, and ends when it has answered those it has.

A request says in its query how many `seconds` it waits, and how many `cpu_seconds` it keeps a processor.
"""

MOST = 3
"""How many replicas there may be."""

BEHAVIOR = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": MOST, "periodSeconds": 15}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 5,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 10}],
    },
}


def working() -> Object:
    """Return the values of a service that does nothing but `WORK`, in the smallest of our images."""
    return echo("inference") | {
        "command": ["python", "-c", WORK],
        # The ingress controller of a busy machine hears late of a pod that ends.
        "shutdown": {"preStopSleepSeconds": 20, "gracefulTimeoutSeconds": 20},
        "serviceMonitor": {"enabled": True, "interval": "5s", "scrapeTimeout": "4s"},
    }


def replicas(release: Release) -> int:
    """Return how many replicas are wanted."""
    wanted: int = release.read("deployment", f"{release.name}-inference")["spec"]["replicas"]
    return wanted


def watch_it_come_down(release: Release, http: httpx.Client) -> None:
    """Wait until one pod is left of `MOST`, while somebody asks now and then.

    Raises:
        AssertionError: more than one replica went at once, or a request was lost.
    """
    counts = [MOST]

    def is_least() -> bool | None:
        counts.append(replicas(release))
        return counts[-1] == 1 or None

    with traffic(lambda: http.get("/predict", params={"seconds": 0.2})) as asked:
        release.until("one replica", is_least, seconds=300)
        release.until("one pod", lambda: len(release.pods("inference")) == 1 or None)
        asked.wait_for_more()
    assert asked.failed == [], asked.since(asked.answers[0].began)
    assert all(before - after in {0, 1} for before, after in pairwise(counts)), counts
