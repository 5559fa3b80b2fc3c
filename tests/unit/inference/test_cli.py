"""`pinhole-models`, as it is typed."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from inference_service.cli import app
from inference_service.lifecycle.loading import Loader
from inference_service.sources.kinds import read_sources
from safetensors.torch import save_file
from torchvision.models import get_model
from typer.testing import CliRunner, Result

from tests.unit.inference.pictures import DATA


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None) -> Path:
    """A models.yaml with one model of random weights, and the file of the calibration to be."""
    torch.manual_seed(0)
    save_file(get_model("squeezenet1_1", weights=None, num_classes=2).state_dict(), tmp_path / "net.safetensors")
    entry = {
        "name": "net",
        "source": "file:net.safetensors",
        "architecture": "squeezenet1_1",
        "labels": ["cat", "dog"],
        "preprocessing": {"resize_size": 64, "crop_size": 64},
        "mode": "int8",
        "calibration": "net.int8.safetensors",
    }
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump({"models": [entry]}))
    monkeypatch.setenv("INFERENCE_MODELS_FILE", str(path))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_a_calibration_is_made_reported_and_served(models: Path) -> None:
    output = models.with_name("net.int8.safetensors")
    result = run("--model", "net", "--pictures", DATA, "--output", output, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["pictures"], report["views"], report["output"]) == (2, 26, str(output))
    assert 0 <= report["agreement"] <= 1
    assert set(report["images_per_second"]) == {"eager", "int8"}
    [source] = read_sources(models, models.parent)
    assert Loader(1).load(source, search=False).dtype_name == "int8"
    sentences = run("--model", "net", "--pictures", DATA, "--output", output)
    assert "int8 names the same class as float32 on" in sentences.stdout


@pytest.mark.parametrize(
    ("model", "pictures", "reason"),
    [("none", DATA, "there is no model none: there is net"), ("net", DATA.parent / "unit", "has 0 pictures")],
)
def test_what_cannot_be_done_is_status_1_with_the_reason(models: Path, model: str, pictures: Path, reason: str) -> None:
    result = run("--model", model, "--pictures", pictures, "--output", models.with_name("out"))
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not models.with_name("out").exists()


def test_a_version_that_is_not_there_is_said_to_be_none(models: Path) -> None:
    result = run("--model", "net", "--version", 9, "--pictures", DATA, "--output", models.with_name("out"))
    assert (result.exit_code, result.stderr) == (1, "there is no version 9 of net: there is 1\n")


def test_a_folder_that_is_not_there_is_said_before_anything_is_computed(models: Path) -> None:
    result = run("--model", "none", "--pictures", DATA, "--output", models.with_name("out") / "net")
    assert (result.exit_code, result.stderr) == (1, f"there is no folder {models.with_name('out')} to write to\n")


def test_pictures_that_are_not_there_and_a_folder_in_the_place_of_the_file_are_said_too(models: Path) -> None:
    missing = models.with_name("pictures")
    result = run("--model", "none", "--pictures", missing, "--output", models.with_name("out"))
    assert (result.exit_code, result.stderr) == (1, f"there is no folder {missing}\n")
    result = run("--model", "none", "--pictures", DATA, "--output", models.parent)
    assert (result.exit_code, result.stderr) == (1, f"{models.parent} is a folder, and no file to write\n")


def test_a_file_that_is_no_picture_is_named_once(models: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "b.png"):
        (pictures / name).write_text("no picture")
    result = run("--model", "net", "--pictures", pictures, "--output", models.with_name("out"))
    assert result.exit_code == 1
    assert f"cannot read {pictures / 'a.png'}: it is no picture\n" in result.stderr


@pytest.mark.parametrize("broken", ["a.png", "b.png"])
def test_a_picture_that_cannot_be_read_is_named(models: Path, tmp_path: Path, broken: str) -> None:
    """Those that are learnt from, and those that are compared on."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    whole = (DATA / "chelsea.png").read_bytes()
    for name in ("a.png", "b.png"):
        (pictures / name).write_bytes(whole[: len(whole) // 2] if name == broken else whole)
    result = run("--model", "net", "--pictures", pictures, "--output", models.with_name("out"))
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert f"cannot read {pictures / broken}: " in result.stderr
    assert not models.with_name("out").exists()
