"""Makes an operator out of its parts: schema, shape function, reference, kernels, gradient.

An operator ``pliant::name(arguments, str backend) -> Tensor`` and its gradient
``pliant::name_backward(Tensor gradient, arguments, str backend, bool[] needed) -> Tensor[]`` are registered
with PyTorch, so that autograd, ``torch.compile`` and ``torch.export`` see one opaque node. The backend is an
argument:
what was chosen at the call also computes the gradient, whenever that happens.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from pliant.errors import MissingDependencyError

LIBRARY = torch.library.Library("pliant", "DEF")


def register(
    name: str,
    arguments: str,
    *,
    reference: Callable[..., Tensor],
    fake: Callable[..., Tensor],
    cpu: ModuleType | None = None,
    gpu: str | None = None,
) -> None:
    """Registers ``pliant::name`` and ``pliant::name_backward``.

    ``arguments``: the schema's arguments, all positional, e.g. ``"Tensor input, Tensor? bias, int[3]
    stride"``.
    ``reference(*arguments)``: the specification. ``fake(*arguments)``: an empty tensor of the result's shape,
    dtype and strides. ``cpu``, ``gpu``: modules (the second by name, imported at first use) with
    ``why_unavailable() -> str | None``, ``why_unsupported(*arguments) -> str | None``,
    ``forward(*arguments) -> Tensor`` and ``backward(gradient, *arguments, needed) -> list[Tensor]``:
    one gradient for each true entry of ``needed``, which has one entry a tensor argument, in order.
    """
    tensors = [i for i, kind in enumerate(_kinds(arguments)) if kind.startswith("Tensor")]
    LIBRARY.define(f"{name}({arguments}, str backend) -> Tensor")
    LIBRARY.define(f"{name}_backward(Tensor gradient, {arguments}, str backend, bool[] needed) -> Tensor[]")

    def forward(*values):
        *values, backend = values
        kernels = choose_kernels(name, backend, values, cpu, gpu)
        if kernels is None:
            return _laid_out(reference(*values), fake(*values))
        return kernels.forward(*values)

    def backward(gradient, *values):
        *values, backend, needed = values
        kernels = choose_kernels(name, backend, values, cpu, gpu)
        if kernels is None:
            return _backward_by_autograd(reference, gradient, values, tensors, needed)
        found = kernels.backward(gradient, *values, needed=needed)
        return [_in_strides_of(g, values[i]) for g, i in zip(found, (i for i, need in zip(tensors, needed) if need))]

    def fake_backward(gradient, *values):
        *values, _, needed = values
        return [torch.empty_like(values[i]) for i, need in zip(tensors, needed) if need]

    def setup_context(ctx, inputs, output):  # PyTorch calls it by these names
        ctx.save_for_backward(*(inputs[i] for i in tensors))
        ctx.others = [None if i in tensors else value for i, value in enumerate(inputs)]

    def autograd(context, gradient):
        values = list(context.others)
        for i, tensor in zip(tensors, context.saved_tensors):
            values[i] = tensor
        needed = [context.needs_input_grad[i] for i in tensors]
        found = iter(getattr(torch.ops.pliant, f"{name}_backward")(gradient, *values, needed))
        gradients = [None] * len(values)
        for i, need in zip(tensors, needed):
            gradients[i] = next(found) if need else None
        return tuple(gradients)

    LIBRARY.impl(name, forward, "CompositeExplicitAutograd")
    LIBRARY.impl(f"{name}_backward", backward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pliant::{name}", lambda *values: fake(*values[:-1]), lib=LIBRARY)
    torch.library.register_fake(f"pliant::{name}_backward", fake_backward, lib=LIBRARY)
    torch.library.register_autograd(f"pliant::{name}", autograd, setup_context=setup_context, lib=LIBRARY)


def _kinds(arguments: str) -> list[str]:
    return [part.split()[0] for part in re.split(r",\s*(?![^\[(]*[\])])", arguments)]


def choose_kernels(
    name: str, backend: str, values: list, cpu: ModuleType | None, gpu: str | None
) -> ModuleType | None:
    """The module that computes this call; ``None`` stands for the reference."""
    if backend == "reference":
        return None
    wanted = ("gpu" if values[0].is_cuda else "cpu") if backend == "auto" else backend
    module, reason = (cpu, why_no_module(cpu, "cpu")) if wanted == "cpu" else load_gpu(gpu)
    if reason is not None:
        if backend == "auto":
            return None
        raise MissingDependencyError(f"{name} cannot run on the backend {wanted!r}: {reason}")
    reason = module.why_unsupported(*values)
    if reason is not None:
        if backend == "auto":
            return None
        raise ValueError(f"{name} cannot run on the backend {wanted!r}: {reason}")
    return module


def why_no_module(module: ModuleType | None, backend: str) -> str | None:
    """``None`` where the kernels of ``module`` can run here, else one sentence."""
    return f"no kernels for the {backend}; the reference runs there" if module is None else module.why_unavailable()


def load_gpu(name: str | None) -> tuple[ModuleType | None, str | None]:
    """The module of the Triton kernels, imported at the first call, and why they cannot run here, or ``None``."""
    if name is None:
        return None, why_no_module(None, "gpu")
    if importlib.util.find_spec("triton") is None:
        return None, "Triton is not installed; pip install 'pliant[gpu]'"
    module = importlib.import_module(name)
    return module, module.why_unavailable()


def _backward_by_autograd(
    reference: Callable[..., Tensor], gradient: Tensor, values: list, tensors: list[int], needed: list[bool]
) -> list[Tensor]:
    """Gradients of the reference: it is computed once more, this time with autograd watching."""
    values = list(values)
    for i, need in zip(tensors, needed):
        if values[i] is not None:
            values[i] = values[i].detach().requires_grad_(need)
    wanted = [values[i] for i, need in zip(tensors, needed) if need]
    with torch.enable_grad():
        output = reference(*values)
    found = torch.autograd.grad(output, wanted, gradient, allow_unused=True, materialize_grads=True)
    return [_laid_out(g, torch.empty_like(value)) for g, value in zip(found, wanted)]


def _in_strides_of(gradient: Tensor, value: Tensor) -> Tensor:
    """The gradient in the strides that ``fake_backward`` promised: those of a new tensor like ``value``."""
    if gradient.is_contiguous() and value.is_contiguous():
        return gradient
    promised = torch.empty_like(value, device="meta").stride()
    return gradient if gradient.stride() == promised else torch.empty_like(value).copy_(gradient)


def _laid_out(value: Tensor, empty: Tensor) -> Tensor:
    """``value`` in the strides of ``empty``: what the shape function promised, and never memory of an
    argument.
    """
    return empty.copy_(value)
