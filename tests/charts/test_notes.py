"""What an install prints: where it is, and how one gets in."""

import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.charts.flavours import CHARTS, helm, named

Notes = Callable[..., str]


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """Return a function that gives what `helm install ph` would print.

    `helm template` leaves the notes out, and an install takes a cluster; so in a copy they are a template as others.
    """
    shutil.copytree(CHARTS, tmp_path / "charts", symlinks=True)

    def render(*arguments: str, chart: str = "pinhole") -> str:
        templates = tmp_path / "charts" / chart / "templates"
        text = textwrap.indent((templates / "NOTES.txt").read_text(), "  ")
        (templates / "notes.yaml").write_text(f"notes: |\n{text}")
        shown = ("--show-only", "templates/notes.yaml", "--kube-version", "1.37.0")
        done = helm("template", "ph", str(templates.parent), "--namespace", "ns", *shown, *arguments)
        assert done.returncode == 0, done.stderr
        return str(yaml.safe_load(done.stdout)["notes"])

    return render


def test_they_say_where_it_is_and_how_to_try_it(notes: Notes) -> None:
    said = notes("--set", "global.publicUrl=https://p.example.com/")
    assert re.search(r"^  https://p\.example\.com +the web page", said, re.MULTILINE)
    assert "helm test ph --namespace ns" in said
    assert "nothing leads here" not in said


@pytest.mark.parametrize("way", ["ingress", "httpRoute"])
@pytest.mark.parametrize(
    ("url", "port"),
    [("https://p.example.com", 443), ("http://p.example.com", 80), ("https://p.example.com:8443", 8443)],
)
def test_they_say_where_grpc_is(notes: Notes, way: str, url: str, port: int) -> None:
    enabled = "inference.grpc.enabled=true,httpRoute.enabled=true,httpRoute.parentRefs[0].name=public"
    said = notes("--set", f"global.publicUrl={url},{enabled},{way}.grpc.host=grpc.example.com")
    assert re.search(rf"^  grpc\.example\.com:{port} +the inference protocol over gRPC", said, re.MULTILINE)
    assert "gRPC" not in notes("--set", f"global.publicUrl={url},{enabled}")


def test_the_command_for_the_password_reads_a_key_that_there_is(notes: Notes) -> None:
    command = re.search(
        r"kubectl get secret --namespace (\S+) (\S+) \\\n +--output jsonpath='{\.data\.(\S+)}'", notes()
    )
    assert command
    secret = named("default", "Secret", command[2])
    assert secret["metadata"]["namespace"] == command[1]
    assert secret["data"][command[3]]


def test_no_password_is_offered_that_they_do_not_know(notes: Notes) -> None:
    said = notes("--values", str(CHARTS / "pinhole/values-production.yaml"))
    assert "password" not in said
    assert "for development" not in said


@pytest.mark.parametrize(
    ("setting", "warning"),
    [("ingress.enabled=false", "nothing leads here from outside"), ("postgresql.enabled=true", "nothing backs it up")],
)
def test_they_say_what_is_missing(notes: Notes, setting: str, warning: str) -> None:
    assert warning in notes("--set", setting)


@pytest.mark.parametrize(
    ("setting", "service"),
    [
        ("inference.keda.enabled=true,inference.keda.prometheusAddress=http://prometheus:9090", "inference"),
        *(("prometheusRule.enabled=true", service) for service in ("auth", "users", "inference")),
    ],
)
def test_they_say_of_what_prometheus_is_asked_and_may_know_nothing(notes: Notes, setting: str, service: str) -> None:
    warning = f"{service}.serviceMonitor is off"
    assert warning not in notes()
    assert warning in notes("--set", setting)
    assert warning not in notes("--set", f"{setting},{service}.serviceMonitor.enabled=true")


@pytest.mark.parametrize("chart", ["auth", "users", "inference"])
def test_a_service_by_itself_says_its_address(notes: Notes, chart: str) -> None:
    database = () if chart == "inference" else ("--set", "database.host=db")
    assert f"http://ph-{chart}.ns:80 in the cluster" in notes(*database, chart=chart)
