"""The quick start of the README, run as it stands there."""

import json
import re
import subprocess
from pathlib import Path

import httpx

from tests.e2e.conftest import Pinhole

ROOT = Path(__file__).parents[2]


def quick_start() -> list[str]:
    """Return the commands under the README's marker, one string each."""
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- quick start:.*?```sh\n(.*?)```", readme, re.DOTALL)
    assert block
    return block[1].strip().split("\n\n")


def test_the_quick_start_works_line_by_line(pinhole: Pinhole) -> None:
    """The commands share one shell, so that a variable of one is there for the next."""
    commands = [command.replace("http://localhost:8000", pinhole.url) for command in quick_start()]
    assert len(commands) == 4
    script = "\n".join(f"{command}\necho; echo ---" for command in commands)
    run = subprocess.run(["sh", "-euc", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    created, _, me, prediction = (part.strip() for part in run.stdout.split("---")[:4])
    assert json.loads(created)["username"] == "ada" == json.loads(me)["username"]
    assert 281 <= json.loads(prediction)["predicted_class"] <= 285


def test_the_curl_line_that_the_start_prints_works(pinhole: Pinhole) -> None:
    printed = "".join(pinhole.output)
    line = printed[printed.index("curl") :].strip()
    assert line


def test_the_page_of_the_api_names_every_path_that_is_for_others(pinhole: Pinhole) -> None:
    page = re.sub(r"{\w+}", "{}", (ROOT / "docs/api.md").read_text())
    for service in ("auth", "users", "inference"):
        for path in httpx.get(f"{pinhole.url}/openapi/{service}.json").json()["paths"]:
            # Those of the inference protocol have a page of their own.
            assert path.startswith("/v2") or re.sub(r"{\w+}", "{}", path) + "`" in page, path
