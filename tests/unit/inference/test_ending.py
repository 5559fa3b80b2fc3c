"""A process that ends while it loads models or looks for faster ways to compute them."""

import time
from pathlib import Path

import pytest

from tests.issuer import AUDIENCE, ISSUER, Issuer
from tests.servers import serving


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["auto", "compile"])
def test_at_the_signal_to_end_a_compilation_is_given_up(issuer: Issuer, tmp_path: Path, mode: str) -> None:
    """The first is served meanwhile, the second is loading."""
    environment = {
        "INFERENCE_AUTH_URL": issuer.url,
        "INFERENCE_ISSUER": ISSUER,
        "INFERENCE_AUDIENCE": AUDIENCE,
        "INFERENCE_MODE": mode,
        "INFERENCE_MODES_DIR": str(tmp_path),
        "GRACEFUL_TIMEOUT_SECONDS": "60",
        "LOG_LEVEL": "WARNING",
    }
    with serving("inference_service.main:create_app()", environment) as server:
        compiling = until_one_compiles(tmp_path)
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert not list(tmp_path.iterdir()), "it was waited for"
    assert not [process for process in processes() if session_of(process) == compiling]


def until_one_compiles(modes_dir: Path) -> int:
    """Return the session of the process that compiles into a folder."""
    gives_up_at = time.monotonic() + 200
    while time.monotonic() < gives_up_at:
        for process in processes():
            if str(modes_dir) in read(process / "cmdline"):
                return session_of(process)
        time.sleep(0.05)
    raise TimeoutError("nothing is compiled")


def processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))


def session_of(process: Path) -> int:
    """Return the session of a process, 0 where it has ended."""
    fields = read(process / "stat").rpartition(")")[2].split()
    return int(fields[3]) if fields and fields[0] != "Z" else 0


def read(path: Path) -> str:
    """Return what a file of a process says, nothing where the process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
