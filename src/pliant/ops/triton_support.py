"""What the Triton kernels share: whether they can run here, the device they run on, precision, block sizes."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager

import torch
import triton
from torch import Tensor


def interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU: for tests, a thousand times slower."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_unavailable() -> str | None:
    """``None`` where the kernels can run, else one sentence."""
    if torch.cuda.is_available() or interpreted():
        return None
    return "PyTorch sees no GPU (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, to test them)"


def why_not_tensor(tensor: Tensor) -> str | None:
    """What of dtype and device of the first argument the kernels do not cover, or ``None``."""
    if not (tensor.is_cuda or interpreted()):
        return f"the tensors are on the {tensor.device.type}; move them to a GPU"
    if tensor.dtype == torch.float64:
        return "the kernels compute in float32, not in float64"
    return None


def on_device_of(tensor: Tensor) -> AbstractContextManager:
    """Kernels in this block start on the tensor's device, whichever is current."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def precision(tensor: Tensor) -> str:
    """How float32 is multiplied: once in TF32 where PyTorch's matrix products are (``allow_tf32`` or ``fp32_precision``
    of ``torch.backends.cuda.matmul``), else in three TF32 products, which together are as exact as float32; plain
    float32 before Ampere, which has no TF32.
    """
    if not tensor.is_cuda or torch.cuda.get_device_capability(tensor.device) < (8, 0):
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


def multiprocessors(tensor: Tensor) -> int:
    """How many blocks run side by side, for splitting sums; interpreted, a few, so that tests see splits."""
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count if tensor.is_cuda else 2


def outputs_that_fit(outputs: int, tensor: Tensor) -> int:
    """``outputs`` of a block, which the tables give for GPUs of data centres, halved where a block of threads has less
    than their 160 KiB of shared memory.
    """
    if not tensor.is_cuda:
        return outputs
    fits = torch.cuda.get_device_properties(tensor.device).shared_memory_per_block_optin >= 160 * 1024
    return outputs if fits else outputs // 2


def block(size: int, most: int) -> int:
    """A power of two from 16, the least side of a matrix product, up to ``most`` that holds ``size`` if it can."""
    return max(16, min(most, triton.next_power_of_2(size)))
