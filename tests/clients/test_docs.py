"""The examples of docs/inference-protocol.md, run as they stand there."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.inference_process import InferenceServer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)  # the first test starts a server


def examples(language: str, server: InferenceServer) -> list[str]:
    """Return the examples in one language, with the addresses of `server`."""
    assert server.grpc is not None
    text = (ROOT / "docs" / "inference-protocol.md").read_text()
    address = server.url.removeprefix("http://")
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [code.replace("localhost:8000", address).replace("localhost:8004", server.grpc) for code in found]


def run(command: list[str], server: InferenceServer) -> str:
    assert server.token is not None
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**environment, "TOKEN": server.token},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_lines_for_curl_work(server: InferenceServer) -> None:
    [example] = examples("sh", server)
    _, named, statistics = (run(["sh", "-euc", command], server) for command in example.split("\n\n"))
    [output] = json.loads(named)["outputs"]
    assert 281 <= int(output["data"][0].split(":")[1]) <= 285
    assert json.loads(statistics)["model_stats"][0]["inference_stats"]["success"]["count"] >= 1


def test_the_programs_work(server: InferenceServer, clients_python: Path) -> None:
    over_rest, over_grpc = (run([str(clients_python), "-c", code], server) for code in examples("python", server))
    assert "cat" in over_rest
    assert over_grpc == "(1, 1000)\n"
