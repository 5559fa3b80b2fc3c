"""A stand-in for the service that computes: each request is work for as long as it asks, and is in its metrics."""

from tests.cluster.releases import Object, echo

WORK = """
import http.server, signal, sys, threading, time, urllib.parse

lock = threading.Lock()
in_flight = 0
busy_seconds = 0.0

class Working(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global in_flight, busy_seconds
        url = urllib.parse.urlsplit(self.path)
        seconds = float(urllib.parse.parse_qs(url.query).get("seconds", ["0"])[0])
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
"""At SIGTERM it takes no more requests, and ends when it has answered those it has."""


def working() -> Object:
    """Return the values of a service that does nothing but `WORK`, in the smallest of our images."""
    return echo("inference") | {
        "command": ["python", "-c", WORK],
        "shutdown": {"preStopSleepSeconds": 5, "gracefulTimeoutSeconds": 20},
        "serviceMonitor": {"enabled": True, "interval": "5s", "scrapeTimeout": "4s"},
    }
