"""The servers that are compared, and how each is started."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.issuer import AUDIENCE, ISSUER, Issuer

HERE = Path(__file__).parent
CORES = 2
CALIBRATION = "resnet50.int8.safetensors"
TOKEN_SECONDS = 6 * 3600


@dataclass(frozen=True)
class Contender:
    """One server: a row of the table."""

    name: str
    title: str
    command: Callable[[int], list[str]]
    """From the port to the program and its arguments."""

    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline_header: str | None = None
    """What tells the server how long a caller waits, in seconds; the others have nothing of the kind."""

    models_file: Path | None = None
    """`models.yaml`, of the inference service."""

    is_slow_at_first: bool = False
    """Whether its first start searches for a mode, or compiles."""

    @property
    def is_ours(self) -> bool:
        """Tell whether it is the inference service."""
        return self.models_file is not None


def contenders(folder: Path, weights: Path, issuer: Issuer, environments: Path) -> list[Contender]:
    """Return the servers, which share the weights and keep what they write under `folder`."""
    ours = {
        "HOST": "127.0.0.1",
        "INFERENCE_MODES_DIR": str(folder / "modes"),
        "INFERENCE_AUTH_URL": issuer.url,
        "INFERENCE_ISSUER": ISSUER,
        "INFERENCE_AUDIENCE": AUDIENCE,
        # The same files are sent again and again: with the cache this would measure the cache.
        "INFERENCE_CACHE_MAX_BYTES": "0",
    }
    plain = write_models_file(folder, weights)
    token = issuer.token(scope="inference:predict", exp=issuer.claims()["iat"] + TOKEN_SECONDS)

    def pinhole(name: str, title: str, mode: str, models_file: Path, **environment: str) -> Contender:
        # As its image starts it.
        gunicorn = ["-m", "gunicorn", "--config", "python:servicekit.gunicorn", "inference_service.main:create_app()"]
        return Contender(
            name,
            title,
            lambda _port: [sys.executable, *gunicorn],
            environment={
                **ours,
                "INFERENCE_MODE": mode,
                "INFERENCE_MODELS_FILE": str(models_file),
                **environment,
            },
            headers={"Authorization": f"Bearer {token}"},
            deadline_header="X-Request-Timeout",
            models_file=models_file,
            is_slow_at_first=models_file == plain,
        )

    def peer(name: str, title: str, *command: str, python: str) -> Contender:
        shared = {"BENCH_WEIGHTS": str(weights), "BENCH_CORES": str(CORES), "BENCH_TEMP": str(folder / "ray")}
        return Contender(name, title, lambda _port: [python, *command], environment=shared)

    servers = HERE / "servers"
    return [
        pinhole("pinhole", "Pinhole", "auto", plain),
        # Its image has no compiler: what a pod does that is given no folder with compiled networks.
        pinhole(
            "pinhole-image",
            "Pinhole, no compiler",
            "auto",
            plain,
            CXX="no-compiler",
            INFERENCE_MODES_DIR=str(folder / "modes-without-compiler"),
        ),
        pinhole("pinhole-fp32", "Pinhole, fp32", "auto-fp32", plain),
        # By name: what it costs where the search finds that bfloat16 alone is enough.
        pinhole("pinhole-cascade", "Pinhole, cascade", "compile-cascade", plain),
        pinhole("pinhole-int8", "Pinhole, int8", "auto", write_models_file(folder, weights, CALIBRATION)),
        peer("tutorial", "FastAPI tutorial", str(servers / "tutorial.py"), python=sys.executable),
        peer(
            "litserve",
            "LitServe",
            str(servers / "litserve_server.py"),
            python=str(environments / "litserve" / "bin" / "python"),
        ),
        peer(
            "bentoml",
            "BentoML",
            *("-m", "bentoml", "serve", "bento_server:ResNet", "--working-dir", str(servers)),
            python=str(environments / "bentoml" / "bin" / "python"),
        ),
        peer("ray", "Ray Serve", str(servers / "ray_server.py"), python=str(environments / "ray" / "bin" / "python")),
    ]


def write_models_file(folder: Path, weights: Path, calibration: str | None = None) -> Path:
    """Write a `models.yaml` with the one network, in 8 bits where a calibration is named."""
    in_8_bits = f", mode: int8, calibration: {calibration}" if calibration else ""
    path = folder / ("models-int8.yaml" if calibration else "models.yaml")
    path.write_text(
        "models:\n"
        f"  - {{name: resnet50, source: 'file:{weights.name}', architecture: resnet50, labels: imagenet{in_8_bits}}}\n"
    )
    return path


def calibrate(folder: Path, pictures: Path) -> None:
    """Make the calibration with the command that users have, from the files in `pictures`."""
    command = [sys.executable, "-m", "inference_service.cli", "calibrate"]
    subprocess.run(
        [*command, "--model", "resnet50", "--pictures", str(pictures), "--output", str(folder / CALIBRATION)],
        env=os.environ | {"INFERENCE_MODELS_FILE": str(folder / "models.yaml"), "LOG_LEVEL": "WARNING"},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def environment_of(contender: Contender, port: int) -> dict[str, str]:
    """Return the environment of its process: ours, with what all servers are told."""
    return os.environ | {
        "BENCH_PORT": str(port),
        "PORT": str(port),
        "LOG_LEVEL": "WARNING",
        "BENTOML_PORT": str(port),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        **contender.environment,
    }


def make_environment(name: str, environments: Path) -> None:
    """Make the virtual environment of a peer; torch and what goes with it are those of this one."""
    home = environments / name
    ready = home / ".ready"
    requirements = HERE / "requirements" / f"{name}.txt"
    if ready.exists() and ready.stat().st_mtime >= requirements.stat().st_mtime:
        return
    uv = [str(Path(sys.executable).with_name("uv"))]
    python = str(home / "bin" / "python")
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
    install = [*uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*install, "--python", python, "--requirement", str(requirements)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path("lib") / version / "site-packages"
    (home / packages / "shared.pth").write_text(str(Path(sys.prefix) / packages) + "\n")
    ready.touch()
