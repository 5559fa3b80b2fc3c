"""The examples, run as they stand there."""

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import jwt
import pytest
import yaml
from inference_service.sources.models_file import read_models_file
from servicekit.tokens import SigningKey

from tests.e2e.conftest import DATA, ESPRESSO, Pinhole, register_client

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = (DATA / "chelsea.png", DATA / "coffee.png")


@pytest.fixture(scope="module")
def environment(pinhole: Pinhole) -> Mapping[str, str]:
    """Where the product is, and somebody who has an account."""
    pinhole.sign_up("maria").close()
    return {"PINHOLE_URL": pinhole.url, "PINHOLE_USERNAME": "maria", "PINHOLE_PASSWORD": "correct horse maria"}


def run(*command: str | Path, environment: Mapping[str, str], status: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode == 0) == (status == 0), done.stdout + done.stderr
    return done


def labels(lines: str) -> dict[str, str]:
    """Return the label of each picture, from lines of name, label and score."""
    return {Path(name).name: label for name, label, _ in (line.split("\t") for line in lines.splitlines())}


def test_the_shell_script_prints_the_answers(environment: Mapping[str, str]) -> None:
    done = run("sh", EXAMPLES / "classify.sh", *PICTURES, environment=environment)
    cat, coffee = (json.loads(line) for line in done.stdout.splitlines())
    assert 281 <= cat["predicted_class"] <= 285
    assert coffee["predicted_class"] == ESPRESSO


PROGRAMS = {
    "python": (sys.executable, EXAMPLES / "classify.py"),
    "node": ("node", EXAMPLES / "classify.mjs"),
    "go": ("go", "run", EXAMPLES / "classify.go"),
}


@pytest.mark.parametrize("command", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_prints_label_and_score(command: tuple[str | Path, ...], environment: Mapping[str, str]) -> None:
    done = run(*command, *PICTURES, environment=environment)
    assert labels(done.stdout)["coffee.png"] == "espresso"
    assert labels(done.stdout)["chelsea.png"]


@pytest.mark.parametrize("command", [("sh", EXAMPLES / "classify.sh"), *PROGRAMS.values()], ids=["sh", *PROGRAMS])
def test_who_is_not_known_and_what_is_no_picture_is_an_error_with_its_reason(
    command: tuple[str | Path, ...], environment: Mapping[str, str]
) -> None:
    unknown = run(*command, PICTURES[0], environment={**environment, "PINHOLE_PASSWORD": "not this one"}, status=1)
    assert "the user name or the password is wrong" in unknown.stderr
    no_picture = run(*command, Path(__file__), environment=environment, status=1)
    assert "expected one of PNG, JPEG, WebP, GIF" in no_picture.stdout + no_picture.stderr


def module(name: str) -> ModuleType:
    """Import an example, which is no part of a package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_python_client_renews_its_token_without_the_password(environment: Mapping[str, str]) -> None:
    example = module("classify")
    auth = example.SignedIn(*environment.values())
    with httpx.Client(base_url=environment["PINHOLE_URL"], auth=auth, timeout=30) as http:

        def sent() -> tuple[str, str]:
            """Return the token of a request, and the session that it belongs to."""
            answer = http.get("/users/me").raise_for_status()
            token = answer.request.headers["Authorization"].removeprefix("Bearer ")
            payload = token.split(".")[1]
            return token, json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sid"]

        first, again = sent(), sent()
        assert first == again
        assert auth.renew_at > time.monotonic() + 60
        auth.renew_at = time.monotonic()
        renewed = sent()
    assert renewed[0] != first[0]
    assert renewed[1] == first[1]


def documents() -> dict[str, Any]:
    """Return the objects of job.yaml by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((EXAMPLES / "kubernetes/job.yaml").read_text())}


def test_the_script_of_the_job_classifies_a_folder_by_an_assertion(
    pinhole: Pinhole, admin: httpx.Client, tmp_path: Path
) -> None:
    """Its container's command and variables; the assertion is that of a client's key in place of a kubelet's."""
    key = SigningKey.generate("ES256")
    client = "classify-by-key"
    register_client(admin, client, "private_key_jwt", scopes=["inference:predict"], jwks=[key.public_document])
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": pinhole.url, "iat": now, "exp": now + 60, "jti": "once"}
    (tmp_path / "token").write_text(jwt.encode(claims, key.pem, algorithm=key.algorithm))
    (tmp_path / "classify.py").write_text(documents()["ConfigMap"]["data"]["classify.py"])
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(DATA / "coffee.png", pictures)
    (pictures / "notes.txt").write_text("no picture")
    (container,) = documents()["Job"]["spec"]["template"]["spec"]["containers"]
    places = {
        "http://pinhole-auth": pinhole.service_url("auth"),
        "http://pinhole-inference": pinhole.service_url("inference"),
        "/var/run/secrets/pinhole/token": str(tmp_path / "token"),
        "/pictures": str(pictures),
    }
    variables = {variable["name"]: places[variable["value"]] for variable in container["env"]}
    done = run(sys.executable, tmp_path / Path(container["command"][1]).name, environment=variables)
    coffee, notes = (json.loads(line) for line in done.stdout.splitlines())
    assert (coffee["picture"], coffee["label"]) == ("coffee.png", "espresso")
    assert notes["picture"] == "notes.txt"
    assert notes["refused"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("models/*.yaml")), ids=lambda path: path.stem)
def test_a_file_of_models_is_valid(path: Path) -> None:
    assert len(read_models_file(path)) == 3
