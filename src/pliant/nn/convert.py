"""Replaces layers in any network."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

__all__ = ["convert"]


def convert(module: nn.Module, rule: Callable[[str, nn.Module], nn.Module | None]) -> nn.Module:
    """``module`` with the layers that ``rule`` names replaced, in place; returns it (or its own replacement).

    rule: called with the dotted name and the layer, outer layers first; what it returns takes the layer's place, None
    leaves it. A replacement is not looked into; a layer that occurs in several places is asked about once, under its
    first name, and replaced in all.
    Raises ValueError where nothing was replaced: the rule fits no layer.

    >>> def sparse(name, layer):
    ...     if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
    ...         return TripleSparseConv2d.from_conv(layer)
    >>> convert(network, sparse)
    """
    answers: dict[nn.Module, nn.Module] = {}
    found = _convert(module, "", rule, answers)
    if all(before is after for before, after in answers.items()):
        raise ValueError(
            f"convert: the rule replaces none of the {len(answers)} layers of {type(module).__name__}"
        )
    return found


def _convert(
    module: nn.Module,
    name: str,
    rule: Callable[[str, nn.Module], nn.Module | None],
    answers: dict[nn.Module, nn.Module],
) -> nn.Module:
    if module in answers:
        return answers[module]
    replacement = rule(name, module)
    answers[module] = module if replacement is None else replacement
    if replacement is not None:
        return replacement
    for key, child in list(module._modules.items()):  # named_children() would leave out a second place
        if child is None:
            continue
        setattr(module, key, _convert(child, f"{name}.{key}" if name else key, rule, answers))
    return module
