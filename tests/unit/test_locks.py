"""The lock files: complete, free of addresses, and of one mind."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ("auth", "users", "inference")
LOCKS = ("run", "dev", "clients", "tools", "torch", *IMAGES)

Pins = Mapping[tuple[str, str], tuple[str, frozenset[str]]]


def pins(name: str) -> Pins:
    """Return version and hashes of each package in a lock file, by name and environment marker."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "requirements" / f"{name}.txt").read_text())
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith("#"):
            requirement, *hashes = line.split("--hash=")
            package, _, marker = (part.strip() for part in requirement.partition(";"))
            project, _, version = package.partition("==")
            found[project, marker] = (version, frozenset(value.strip() for value in hashes))
    return found


def projects(requirements: list[str]) -> set[str]:
    """Return the names in a list of requirements, as lock files spell them."""
    names = {re.match(r"[\w.-]+", requirement) for requirement in requirements}
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_each_package_by_version_and_hash(name: str) -> None:
    locked = pins(name)
    assert locked
    for (project, _), (version, hashes) in locked.items():
        assert re.fullmatch(r"[\w.+!]+", version), project
        assert hashes, project
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), project


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place_to_download_from(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|index-url|find-links|trusted-host| @ |file:|git\+", text)


@pytest.mark.parametrize("name", ["run", "tools", "torch", *IMAGES])
def test_the_locks_agree(name: str) -> None:
    everything = {(project, *pin) for (project, _), pin in pins("dev").items()}
    assert {(project, *pin) for (project, _), pin in pins(name).items()} <= everything


def test_what_runs_has_all_that_the_services_ask_for_and_no_test_tool() -> None:
    asked = set()
    for path in ROOT.glob("services/*/pyproject.toml"):
        asked |= projects(tomllib.loads(path.read_text())["project"]["dependencies"])
    locked = {project for project, _ in pins("run")}
    assert asked - {"servicekit"} <= locked
    assert not locked & {"pytest", "mypy", "ruff", "hypothesis", "playwright"}


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_has_all_that_its_service_asks_for(service: str) -> None:
    asked: set[str] = set()
    for part in ("servicekit", service):
        document = tomllib.loads((ROOT / "services" / part / "pyproject.toml").read_text())
        asked |= projects(document["project"]["dependencies"])
    locked = {project for project, _ in pins(service)}
    if service == "inference":
        locked |= {project for project, _ in pins("torch")}
    assert asked - {"servicekit"} <= locked


@pytest.mark.parametrize(("service", "expected"), [("auth", False), ("users", False), ("inference", True)])
def test_grpc_is_in_the_image_of_inference_alone(service: str, expected: bool) -> None:
    grpc = {"grpcio", "opentelemetry-exporter-otlp-proto-grpc"}
    assert grpc & {project for project, _ in pins(service)} == (grpc if expected else set())


@pytest.mark.parametrize("service", IMAGES)
def test_torch_and_cuda_are_in_a_lock_of_their_own(service: str) -> None:
    locked = {project for project, _ in pins(service)}
    assert not {name for name in locked if name.startswith(("torch", "nvidia", "cuda", "triton"))}
    assert {project for project, _ in pins("torch")} >= {"torch", "torchvision"}
