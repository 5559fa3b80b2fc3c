"""The programs that check the charts: where they are, and what kubeconform says."""

import json
import shutil
import subprocess
from pathlib import Path

OWN = Path(__file__).parents[2] / "build" / "tools"
SCHEMAS = Path(__file__).with_name("schemas") / "{{.ResourceKind}}{{.KindSuffix}}.json"


def find_tool(name: str) -> str:
    """Return the path of a program: that of the user, or one that `make setup requisites` has brought.

    Raises:
        FileNotFoundError: it is neither; the tests that need it fail, they are not skipped.
    """
    found = shutil.which(name) or shutil.which(name, path=str(OWN))
    if found is None:
        raise FileNotFoundError(f"{name} is missing: run `make setup requisites`")
    return found


def assert_valid(manifests: str) -> None:
    """Check that each object is one that Kubernetes or an operator takes, and that none is left unchecked."""
    command = [find_tool("kubeconform"), "-strict", "-output", "json", "-summary", "-schema-location", str(SCHEMAS)]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, timeout=60, check=False)
    result = json.loads(done.stdout)
    assert result.get("resources", []) == []
    summary = result["summary"]
    assert summary.pop("valid") > 0
    assert set(summary.values()) == {0}
