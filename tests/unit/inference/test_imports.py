"""What a start pays for: each process of a service, and each worker, imports it."""

import subprocess
import sys

FOR_FEW = ("sympy", "torch._dynamo", "torch._inductor", "torchvision", "sqlalchemy", "limits")
"""What takes seconds or many megabytes, and only some models or services need."""


TORCHVISION = """
import sys
from inference_service.sources.torchvision_models import published_weights

published_weights("resnet18")
print([name for name in ("torchvision", "torch._dynamo", "sympy") if name in sys.modules])
import torch

print(torch.export.export(torch.nn.ReLU(), (torch.ones(1),)).module()(torch.tensor([-1.0, 1.0])[:1]).tolist())
"""


def test_torchvision_comes_without_the_compiler_which_is_whole_when_it_is_asked_for() -> None:
    run = subprocess.run([sys.executable, "-c", TORCHVISION], capture_output=True, text=True, timeout=110, check=False)
    assert run.stdout.splitlines() == ["['torchvision']", "[0.0]"], run.stderr


IN_8_BITS = """
import sys, torch
from inference_service.compute.quantization import calibrate, quantized
from tests.unit.inference.networks import tiny_model

layers = torch.nn.Conv2d(3, 3, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
model = tiny_model(torch.nn.Sequential(*layers).eval())
quantized(model, calibrate(model, [torch.rand(4, 3, 8, 8)]))
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


def test_8_bits_come_without_the_compiler() -> None:
    run = subprocess.run([sys.executable, "-c", IN_8_BITS], capture_output=True, text=True, timeout=110, check=False)
    assert run.stdout.strip() == "[]", run.stderr


def test_a_start_does_not_import_what_only_some_models_need() -> None:
    program = f"import sys, inference_service.main; print([name for name in {FOR_FEW} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110, check=False)
    assert run.stdout.strip() == "[]", run.stderr
