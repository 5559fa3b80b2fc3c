"""How long accounts and tokens take, beside fastapi-users on the same machine in the same run."""

import argparse
import asyncio
import http.client
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from servicekit.token_form import Algorithm
from servicekit.tokens import PublicKey, SigningKey, TokenVerifier

from benchmarks.identity.servers import ADMIN, HERE, ROOT, build_peer, free_port, serving, serving_pinhole

ACCOUNTS = 200
PEER_ADMIN = ("admin@example.com", "correct horse battery staple")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OURS, PEER = "Pinhole", "fastapi-users"

Times = dict[tuple[str, str], list[float]]
"""Seconds of each repetition, by operation and by whose it is."""


class Caller:
    """One caller with one connection that stays open."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)

    def call(self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """Return the answer, which has to be a good one."""
        self._connection.request(method, path, body, dict(headers or {}))
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:200]!r}")
        return json.loads(content)

    def sign_in(self, path: str, username: str, password: str) -> Any:
        """Return the tokens for a password."""
        form = urlencode({"grant_type": "password", "username": username, "password": password})
        return self.call("POST", path, form, FORM)


class OneKey:
    """A key source of one key."""

    def __init__(self, key: PublicKey) -> None:
        self._key = key

    async def get(self, key_id: str) -> PublicKey | None:
        """Return the key, if it is asked for."""
        return self._key if key_id == self._key.key_id else None


def measure_verification(times: Times, algorithm: Algorithm, repetitions: int) -> None:
    """Measure a verifier that has to compute each signature, and one that has seen the token."""
    key, now = SigningKey.generate(algorithm), int(time.time())
    names = {
        "iss": "http://localhost",
        "aud": "pinhole",
        "sub": "someone",
        "client_id": "bench",
        "jti": "1",
        "sid": "1",
    }
    token = key.sign({**names, "scope": "profile", "iat": now, "exp": now + 3600})
    public = OneKey(PublicKey(key.public_document))

    async def run(*, is_remembered: bool) -> list[float]:
        verifier = TokenVerifier(public, issuer="http://localhost", audience="pinhole")
        measured = []
        for _ in range(repetitions):
            if not is_remembered:
                verifier = TokenVerifier(public, issuer="http://localhost", audience="pinhole")
            started = time.perf_counter()
            await verifier.verify(token)
            measured.append(time.perf_counter() - started)
        return measured

    times[f"verify a token, {algorithm}", OURS] += asyncio.run(run(is_remembered=False))
    times[f"verify a token seen before, {algorithm}", OURS] += asyncio.run(run(is_remembered=True))[1:]


def repeat(times: list[float], operation: Callable[[], Any], repetitions: int) -> None:
    """Measure an operation."""
    for _ in range(repetitions):
        started = time.perf_counter()
        operation()
        times.append(time.perf_counter() - started)


def fill(users: Caller, headers: Mapping[str, str]) -> str:
    """Create accounts and return the id of one."""
    account = {}
    for number in range(ACCOUNTS):
        body = json.dumps({"username": f"user{number}", "email": f"user{number}@example.com"})
        account = users.call("POST", "/users", body, {**headers, "Content-Type": "application/json"})
    return str(account["id"])


def measure_servers(times: Times, rounds: int, repetitions: int, peer_python: Path, folder: Path) -> None:
    """Measure in rounds, in which ours and the peer's take turns."""
    peer_settings = {"PEER_DATABASE": f"{folder}/peer.db", "PEER_ACCOUNTS": str(ACCOUNTS)}
    with (
        serving_pinhole(folder) as (auth_url, users_url),
        serving(peer_python, "peer:create_app", free_port(), "/openapi.json", **peer_settings) as peer_url,
    ):
        auth, users, peer = Caller(auth_url), Caller(users_url), Caller(peer_url)
        tokens = auth.sign_in("/token", *ADMIN)
        ours = {"Authorization": f"Bearer {tokens['access_token']}"}
        theirs = {"Authorization": f"Bearer {peer.sign_in('/auth/jwt/login', *PEER_ADMIN)['access_token']}"}
        account = fill(users, ours)
        peer_account = peer.call("GET", "/users/me", headers=theirs)["id"]
        refresh_token = tokens["refresh_token"]

        def refresh() -> None:
            nonlocal refresh_token
            form = urlencode({"grant_type": "refresh_token", "refresh_token": refresh_token})
            refresh_token = auth.call("POST", "/token", form, FORM)["refresh_token"]

        operations: list[tuple[str, str, Callable[[], Any], int]] = [
            ("GET /users/{id}", OURS, lambda: users.call("GET", f"/users/{account}", headers=ours), repetitions),
            ("GET /users/{id}", PEER, lambda: peer.call("GET", f"/users/{peer_account}", headers=theirs), repetitions),
            ("GET /users?limit=50", OURS, lambda: users.call("GET", "/users?limit=50", headers=ours), repetitions),
            ("sign in", OURS, lambda: auth.sign_in("/token", *ADMIN), repetitions // 10),
            ("sign in", PEER, lambda: peer.sign_in("/auth/jwt/login", *PEER_ADMIN), repetitions // 10),
            ("refresh", OURS, refresh, repetitions // 10),
        ]
        for _ in range(rounds):
            for name, whose, operate, count in operations:
                operate()  # not counted: what it finds cold, the next ones find warm
                repeat(times[name, whose], operate, count)
            for algorithm in ("RS256", "ES256"):
                measure_verification(times, algorithm, repetitions)
            run = subprocess.run(
                [peer_python, HERE / "peer.py", str(repetitions)], capture_output=True, text=True, check=True
            )
            for algorithm, seconds in json.loads(run.stdout).items():
                times[f"verify a token, {algorithm}", PEER] += seconds


def report(times: Times) -> None:
    """Print a table: percentiles in microseconds, and how often ours fits into the peer's."""
    medians = {}
    print("| operation | | p50 µs | p95 µs | p99 µs | peer / ours |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for (name, whose), seconds in sorted(times.items()):
        seconds.sort()
        p50, p95, p99 = (seconds[len(seconds) * percent // 100] * 1e6 for percent in (50, 95, 99))
        medians[name, whose] = p50
        ours = medians.get((name, OURS))
        ratio = f"{p50 / ours:.2f}" if whose == PEER and ours else ""
        print(f"| {name} | {whose} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {ratio} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=400, help="of the quick operations, in each round")
    arguments = parser.parse_args()
    times: Times = defaultdict(list)
    python = build_peer(ROOT / "build" / "bench-identity")
    with tempfile.TemporaryDirectory() as folder:
        measure_servers(times, arguments.rounds, arguments.repetitions, python, Path(folder))
    report(times)
    load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    print(f"\n{os.cpu_count()} CPUs; load averages of 1, 5 and 15 minutes at the end: {load}")


if __name__ == "__main__":
    main()
