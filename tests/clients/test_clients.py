"""The clients of Triton and KServe, as they are published, against the running service."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.inference_process import InferenceServer

HERE = Path(__file__).parent


@pytest.mark.parametrize("client", ["triton_http", "triton_grpc", "kserve_rest"])
@pytest.mark.timeout(600)
def test_a_client_works_as_it_is_published(server: InferenceServer, clients_python: Path, client: str) -> None:
    assert server.token is not None
    assert server.grpc is not None
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [
        *(str(clients_python), "-m", "pytest", "-q", "--noconftest", "--import-mode=importlib", "-c", os.devnull),
        *("--rootdir", str(HERE), "-p", "no:cacheprovider", "-p", "no:asyncio", str(HERE / f"{client}.py")),
    ]
    run = subprocess.run(
        command,
        env={
            **environment,
            "OIP_URL": server.url,
            "OIP_GRPC": server.grpc,
            "OIP_MODEL": server.model,
            "OIP_TOKEN": server.token,
            "OIP_PICTURE": str(HERE.parent / "data" / "chelsea.png"),
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
