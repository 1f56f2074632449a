"""What runs on this machine, and what not, and why."""

from __future__ import annotations

import torch

from pliant.ops import OPERATORS, Operator, native
from pliant.ops.registration import load_gpu, why_no_module


def why_not(operator: Operator, backend: str) -> str | None:
    """``None`` where ``operator`` runs on ``backend`` here, else one sentence."""
    if backend == "reference":
        return None
    if backend == "cpu":
        return why_no_module(operator.cpu, "cpu")
    return load_gpu(operator.gpu)[1]


def status() -> dict[str, object]:
    """The native kernels, the GPU, and for each operator the reason why a backend is missing, or None."""
    missing = native.why_missing()
    return {
        "native": {
            "missing": missing,
            "instruction_set": None if missing else native.instruction_set(),
            "threads": torch.get_num_threads(),
        },
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "operators": {
            name: {backend: why_not(operator, backend) for backend in ("reference", "cpu", "gpu")}
            for name, operator in OPERATORS.items()
        },
    }
