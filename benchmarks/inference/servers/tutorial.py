"""The server of a tutorial: FastAPI, a plain function, torchvision's transforms, one picture at a time.

Its threads are set, which tutorials leave out: by default 40 requests would each compute with every core.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import anyio.to_thread
import torch
import uvicorn
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from safetensors.torch import load_file
from torchvision import models, transforms

model = models.resnet50(weights=None)
model.load_state_dict(load_file(os.environ["BENCH_WEIGHTS"]))
model.eval()

transform = transforms.Compose(
    [
        transforms.Resize((224, 224)),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Let as many requests compute as there are cores, each with one thread."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = int(os.environ["BENCH_CORES"])
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
def predict_image(file: UploadFile = File(...)) -> dict[str, int]:  # noqa: B008 as the tutorial has it
    """Classify one picture."""
    torch.set_num_threads(1)
    image = transform(Image.open(BytesIO(file.file.read())).convert("RGB")).unsqueeze(0)
    with torch.no_grad():
        _, predicted = torch.max(model(image), 1)
    return {"predicted_class": int(predicted.item())}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), access_log=False, log_level="warning")
