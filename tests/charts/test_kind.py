"""The cluster on a laptop: its file, the targets of make, and the values for it speak of the same one."""

import os
import subprocess

import yaml

from tests.charts.flavours import CHARTS, ROOT

KIND = yaml.safe_load((ROOT / "k8s/kind.yaml").read_text())


def commands(*arguments: str) -> str:
    """Return what make would run, on one line each, without the looks for what has to be there."""
    # The tests may be run by make, of whose targets and variables this is to know nothing.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-n", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=60)
    lines = done.stdout.replace("\\\n", "").splitlines()
    return "\n".join(line for line in lines if not line.startswith("command -v "))


def test_the_public_address_leads_to_the_ingress_controller_of_make_up() -> None:
    mapping, secure = KIND["nodes"][0]["extraPortMappings"]
    assert "--config k8s/kind.yaml" in commands("up")
    assert f"ports.web.nodePort={mapping['containerPort']} " in commands("up")
    assert f"ports.websecure.nodePort={secure['containerPort']} " in commands("up")
    values = yaml.safe_load((CHARTS / "pinhole/values-dev.yaml").read_text())
    assert values["global"]["publicUrl"] == f"http://pinhole.localhost:{mapping['hostPort']}"


def test_what_is_loaded_is_what_was_built_and_what_the_charts_ask_for() -> None:
    assert f"--name {KIND['name']} " in commands("load")
    for service in ("auth", "users", "inference"):
        assert f"localhost/pinhole/{service}:0.1.0" in commands("load").split()
    own = ("REGISTRY=registry.example.com", "TAG=7", "BUILD=build")
    built = {line.split()[1] for line in commands("images", *own).splitlines()}
    assert set(commands("load", *own).split()[5:]) == built
    assert "registry.example.com/pinhole/users:7" in built


def test_down_removes_the_cluster_of_up() -> None:
    assert commands("down").split() == ["kind", "delete", "cluster", "--name", KIND["name"]]


def test_the_image_that_stands_in_for_postgresql_has_the_name_that_the_chart_asks_for() -> None:
    image = yaml.safe_load((CHARTS / "pinhole/values.yaml").read_text())["postgresql"]["image"]
    _, built, folder = commands("image-postgres", "BUILD=build").split()
    assert built == f"{image['registry']}/{image['repository']}:{image['tag']}"
    assert (ROOT / folder / "Dockerfile").exists()
