"""The JPEGs and the weights that every contender gets."""

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet50

ROOT = Path(__file__).parents[2]
SIZES = {640: (640, 427), 1920: (1920, 1280)}
QUALITY = 90
VARIANTS = 4
"""Crops of each photograph, so that no server sees the same bytes all the time."""


def write_pictures(folder: Path) -> dict[int, list[Path]]:
    """Write the JPEGs of each width, made from the photographs of the tests."""
    files: dict[int, list[Path]] = {width: [] for width in SIZES}
    for name in ("chelsea", "coffee"):
        with Image.open(ROOT / "tests" / "data" / f"{name}.png") as opened:
            photo = opened.convert("RGB")
        for variant in range(VARIANTS):
            crop = photo.crop(
                (variant * 4, variant * 3, photo.width - 12 + variant * 4, photo.height - 9 + variant * 3)
            )
            for width, size in SIZES.items():
                path = folder / str(width) / f"{name}-{variant}.jpg"
                path.parent.mkdir(exist_ok=True)
                crop.resize(size, Image.Resampling.LANCZOS).save(path, quality=QUALITY)
                files[width].append(path)
    return files


def write_weights(folder: Path) -> Path:
    """Write a ResNet-50 with seeded weights: its speed is that of the published ones, its answers mean nothing."""
    torch.manual_seed(0)
    path = folder / "resnet50.safetensors"
    save_file(resnet50(weights=None).state_dict(), path)
    return path
