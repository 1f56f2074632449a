"""Holding an operator to its reference: results and gradients of one call, and how far apart two may be."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pliant.ops import use_backend

Results = dict[str, Tensor]


def run(function: Callable[..., Tensor], arguments: dict, wanted: list[str], gradient: Tensor | None = None) -> Results:
    """The result and the gradients by the arguments named in ``wanted``, as a dict of tensors by name.

    ``gradient``: by the result; normal numbers from a fixed seed where it is not given.
    """
    arguments = dict(arguments)
    for key in wanted:
        arguments[key] = arguments[key].detach().requires_grad_(True)
    output = function(**arguments)
    if gradient is None:
        gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    found = torch.autograd.grad(output, [arguments[k] for k in wanted], gradient.to(output))
    return {"output": output.detach(), **{f"gradient of {k}": g for k, g in zip(wanted, found)}}


def exact(function: Callable[..., Tensor], arguments: dict, wanted: list[str]) -> Results:
    """The same from the reference in float64, at the very numbers (rounded ones, where they are rounded)."""
    double = {k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in arguments.items()}
    with use_backend("reference"):
        return run(function, double, wanted)


def assert_near(found: Results, expected: Results, share: float) -> None:
    """Each tensor within ``share`` of the largest magnitude expected; says which is not, by how much and where."""
    for name, value in expected.items():
        assert found[name].shape == value.shape, f"{name}: shape {found[name].shape}, expected {value.shape}"
        if value.numel() == 0:
            continue
        assert torch.equal(found[name].isfinite(), value.isfinite()), f"{name}: not finite in other places"
        both = value.isfinite()
        difference = torch.where(both, found[name].double() - value, torch.zeros_like(value)).abs()
        largest = max(value[both].abs().max().item(), 1e-3)
        worst = difference.argmax().item()
        assert difference.max() <= share * largest, (
            f"{name} off by {difference.max():.3g} of {largest:.3g}, flat index {worst} of {list(value.shape)}"
        )


def allowed_in_half_precision(
    expected: Results, plain: Results, dtype: torch.dtype
) -> dict[str, tuple[Tensor, Tensor]]:
    """By name: where both are finite, and the largest error allowed there.

    That is twice the error of the reference computed in ``dtype`` (``plain``), and one rounding of the result more.
    """
    allowed = {}
    for key, value in expected.items():
        if value.numel() == 0:
            continue
        places = value.isfinite() & plain[key].isfinite()
        error = (plain[key].double() - value)[places].abs().max()
        allowed[key] = places, 2 * error + torch.finfo(dtype).eps * value[places].abs().max()
    return allowed
