"""What a start pays for: each process of a service, and each worker, imports it."""

import subprocess
import sys

FOR_FEW = ("sympy", "torch._dynamo", "torch._inductor", "torchvision", "sqlalchemy")
"""What takes seconds or many megabytes, and only some models or services need."""


def test_a_start_does_not_import_what_only_some_models_need() -> None:
    program = f"import sys, inference_service.main; print([name for name in {FOR_FEW} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=110, check=False)
    assert run.stdout.strip() == "[]", run.stderr
