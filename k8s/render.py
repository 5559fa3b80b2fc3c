"""Renders the plain manifests of this folder from the charts: `make manifests`."""

import shutil
import subprocess
from pathlib import Path

K8S = Path(__file__).parent
CHART = K8S.parent / "charts" / "pinhole"
HEAD = "# Rendered from the charts by `make manifests`: change those.\n"
VALUES = {
    "dev": (CHART / "values-dev.yaml", K8S / "dev/values.yaml"),
    "production": (CHART / "values-production.yaml",),
    "gpu": (CHART / "values-production.yaml", CHART / "values-gpu.yaml"),
}


def render(name: str, helm: str) -> str:
    """Return the manifests of one folder; `helm` is the program."""
    values = [part for path in VALUES[name] for part in ("--values", str(path))]
    command = [helm, "template", "pinhole", str(CHART), "--namespace", "pinhole", "--no-hooks", *values]
    command += ["--kube-version", "1.37.0"]  # some builds of Helm take an old one otherwise
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return HEAD + done.stdout


if __name__ == "__main__":
    found = shutil.which("helm") or shutil.which("helm", path=str(K8S.parent / "build" / "tools"))
    if found is None:
        raise SystemExit("helm is missing")
    for name in VALUES:
        (K8S / name / "pinhole.yaml").write_text(render(name, found))
