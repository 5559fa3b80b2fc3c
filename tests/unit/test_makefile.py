"""What `make` says where a program is missing that a target needs."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("target", "programs", "reason"),
    [
        ("up", [], "make up needs kind, and it is not there: see https://kind.sigs.k8s.io"),
        ("up", ["kind"], "make up needs helm, and it is not there: see https://helm.sh"),
        ("load", [], "make load needs kind, and it is not there: see https://kind.sigs.k8s.io"),
        (
            "image-auth",
            [],
            "make image-auth needs docker, and it is not there: install docker or podman; BUILD=... names another",
        ),
    ],
)
def test_a_program_that_is_not_there_is_named_with_what_to_do(
    target: str, programs: list[str], reason: str, tmp_path: Path
) -> None:
    make = shutil.which("make")
    assert make
    for name in ("sed", "git"):  # that the Makefile itself is read with
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    for name in programs:
        (tmp_path / name).symlink_to("/bin/false")
    result = subprocess.run(
        [make, target], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == reason
    assert result.stdout == ""
