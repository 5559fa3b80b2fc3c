"""The development loop: skaffold takes its file, and each profile renders to what it promises.

Skaffold takes minutes to build, and `make requisites` does not. Where it is not on the PATH nor in build/tools these
tests are skipped; with E2E_COMPLETE=1 they fail.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.flavours import ROOT, Object
from tests.charts.tools import OWN, assert_valid, find_tool

PROFILES = ("", "dev", "dev,dev-gpu", "gpu", "ci")
RELOADING = ("dev", "dev,dev-gpu")
SERVICES = ("auth", "users", "inference")
BUILT = {service: f"registry.example.com/team/pinhole-{service}:x" for service in SERVICES}
Skaffold = Callable[..., str]


@pytest.fixture(scope="module")
def skaffold(tmp_path_factory: pytest.TempPathFactory) -> Skaffold:
    """Return a function that runs skaffold in a home of its own, with no cluster in sight."""
    program = shutil.which("skaffold") or shutil.which("skaffold", path=str(OWN))
    if program is None:
        missing = "skaffold is neither on the PATH nor in build/tools"
        if os.environ.get("E2E_COMPLETE") == "1":
            pytest.fail(f"{missing}, and E2E_COMPLETE asks for all")
        pytest.skip(missing)
    home = tmp_path_factory.mktemp("home")
    (home / ".skaffold").mkdir()
    silent = {"global": {"collect-metrics": False, "update-check": False}, "kubeContexts": []}
    (home / ".skaffold/config").write_text(yaml.safe_dump(silent))
    path = f"{Path(find_tool('helm')).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(home), "PATH": path, "KUBECONFIG": str(home / "none")}

    def run(*arguments: str, profile: str) -> str:
        command = [program, *arguments, *(["--profile", profile] if profile else [])]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def rendered(skaffold: Skaffold, folder: Path, profile: str) -> list[Object]:
    """Return the objects that a profile would install, of images that somebody has built."""
    builds = [{"imageName": f"pinhole-{service}", "tag": tag} for service, tag in BUILT.items()]
    (folder / "builds.json").write_text(json.dumps({"builds": builds}))
    manifests = folder / "manifests.yaml"
    # The images are nowhere, so their digests cannot be asked for.
    arguments = ("--digest-source", "tag", "--build-artifacts", str(folder / "builds.json"), "--output", str(manifests))
    skaffold("render", *arguments, profile=profile)
    assert_valid(manifests.read_text())
    return [found for found in yaml.safe_load_all(manifests.read_text()) if found]


def containers(objects: list[Object]) -> Iterator[tuple[str, Any]]:
    """Yield each container with the name of its Deployment, StatefulSet or Pod."""
    for found in objects:
        if found["kind"] in ("Deployment", "StatefulSet", "Pod"):
            spec = found["spec"] if found["kind"] == "Pod" else found["spec"]["template"]["spec"]
            for container in (*spec.get("initContainers", []), *spec["containers"]):
                yield found["metadata"]["name"], container


def diagnosed(skaffold: Skaffold, profile: str) -> Any:
    """Return the file as skaffold understands it with a profile."""
    return yaml.safe_load(skaffold("diagnose", "--yaml-only", profile=profile))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_builds_the_three_images_and_only_dev_puts_code_into_them(skaffold: Skaffold, profile: str) -> None:
    artifacts = {each["image"]: each for each in diagnosed(skaffold, profile)["build"]["artifacts"]}
    assert set(artifacts) == {f"pinhole-{service}" for service in SERVICES}
    for service in SERVICES:
        artifact = artifacts[f"pinhole-{service}"]
        assert (ROOT / artifact["docker"]["dockerfile"]).is_file()
        assert ("sync" in artifact) == (profile in RELOADING)
        # Whose process is to write the code has to own it.
        assert ("CODE_OWNER" in artifact["docker"].get("buildArgs", {})) == (profile in RELOADING)


@pytest.mark.parametrize("service", SERVICES)
def test_changed_code_is_put_where_the_container_imports_it(skaffold: Skaffold, service: str) -> None:
    artifacts = diagnosed(skaffold, "dev")["build"]["artifacts"]
    (artifact,) = (each for each in artifacts if each["image"] == f"pinhole-{service}")
    places = {
        f"{rule['dest']}/{path.relative_to(ROOT).as_posix().removeprefix(rule['strip'])}"
        for rule in artifact["sync"]["manual"]
        for path in ROOT.glob(rule["src"])
    }
    assert {f"/opt/code/{service}_service/main.py", "/opt/code/servicekit/app.py"} <= places
    assert "PYTHONPATH=/opt/code" in (ROOT / artifact["docker"]["dockerfile"]).read_text()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_installs_the_images_that_were_built(skaffold: Skaffold, tmp_path: Path, profile: str) -> None:
    objects = rendered(skaffold, tmp_path, profile)
    assert {found["metadata"]["namespace"] for found in objects} == {"pinhole"}
    images = {name: container["image"] for name, container in containers(objects)}
    for service, tag in BUILT.items():
        assert images[f"pinhole-{service}"] == images[f"pinhole-{service}-test"] == tag
    others = {name for name, image in images.items() if image not in BUILT.values()}
    assert others == {"pinhole-postgresql"}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_what_its_name_says(skaffold: Skaffold, tmp_path: Path, profile: str) -> None:
    found = dict(containers(rendered(skaffold, tmp_path, profile)))
    with_gpu = {name for name, each in found.items() if "nvidia.com/gpu" in each["resources"]["limits"]}
    assert with_gpu == ({"pinhole-inference"} if "gpu" in profile else set())
    reloading = {name for name, each in found.items() if "--reload" in each.get("command", [])}
    assert reloading == ({f"pinhole-{service}" for service in SERVICES} if profile in RELOADING else set())
    for name in reloading:
        assert found[name]["command"][-1] == "/opt/code"


def test_ci_waits_until_all_is_ready(skaffold: Skaffold) -> None:
    deploy = diagnosed(skaffold, "ci")["deploy"]
    assert deploy["helm"]["flags"] == {
        "install": ["--wait", "--timeout", "10m"],
        "upgrade": ["--wait", "--timeout", "10m"],
    }
    assert deploy["statusCheckDeadlineSeconds"] == 600
