"""What runs on this machine, and what not, and why."""

from __future__ import annotations

import importlib

import torch

from pliant.ops import OPERATORS, Operator, native


def why_not(operator: Operator, backend: str) -> str | None:
    """``None`` where ``operator`` runs on ``backend`` here, else one sentence."""
    if backend == "reference":
        return None
    if backend == "cpu":
        return "no native kernels for it" if operator.cpu is None else operator.cpu.why_unavailable()
    if operator.gpu is None:
        return "no GPU kernels for it"
    try:
        module = importlib.import_module(operator.gpu)
    except ImportError as error:
        return f"{error}; install triton"
    return module.why_unavailable()


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
