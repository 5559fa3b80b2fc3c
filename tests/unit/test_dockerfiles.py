"""The Dockerfiles: of one kind, and without privileges."""

import json
import re
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"
IMAGES = ("auth", "users", "inference")


def instructions(service: str) -> list[tuple[str, str]]:
    """Return name and arguments of each instruction of a service's Dockerfile."""
    text = (SERVICES / service / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def test_the_small_images_are_made_in_the_same_way() -> None:
    auth, users = (
        [(name, rest.replace(service, "SERVICE")) for name, rest in instructions(service) if name != "LABEL"]
        for service in ("auth", "users")
    )
    assert auth == users


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_runs_as_nobody_in_particular_and_gets_signals_itself(service: str) -> None:
    last = dict(instructions(service))
    assert last["USER"] == "10001:10001"
    assert json.loads(last["ENTRYPOINT"])[0] == "gunicorn"


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_can_be_built_on_another_base(service: str) -> None:
    found = instructions(service)
    assert found[0] == ("ARG", "PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm")
    stages = {rest.split()[-1] for name, rest in found if name == "FROM" and " AS " in rest}
    assert {rest.split()[0] for name, rest in found if name == "FROM"} <= {"${PYTHON_IMAGE}", *stages}


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_says_what_it_is(service: str) -> None:
    labels = dict(instructions(service))["LABEL"]
    asked = ("title", "description", "version", "revision")
    assert all(f"org.opencontainers.image.{label}=" in labels for label in asked)
