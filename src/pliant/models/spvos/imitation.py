"""Distillation between two small trackers: one key encoder learns to give what the other's gives, without masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pliant.models.spvos.small import SmallTracker
from pliant.nn.fused_conv import conv2d

__all__ = ["copy_common", "encoder_outputs", "imitating_parameters", "imitation_loss"]

_OWN = ("key_encoder.", "key.", "context.", "value_encoder.reduce.", "decoder.skip")


def encoder_outputs(network: SmallTracker, images: Tensor) -> dict[str, Tensor]:
    """All that the rest of the network takes from the key encoder: images [N, 3, H, W] -> maps [N, C, h, w] by name."""
    f4, f8, f16 = network.key_encoder(images.contiguous(memory_format=torch.channels_last))
    skip4, skip8 = network.decoder.skips(f4, f8)
    coarse = {"key": network.key, "context": network.context, "reduced": network.value_encoder.reduce}
    return {**{name: conv2d(layer, f16) for name, layer in coarse.items()}, "skip8": skip8, "skip4": skip4}


def imitation_loss(network: SmallTracker, teacher: SmallTracker, images: Tensor) -> dict[str, Tensor]:
    """For every output of the encoder the squared error as a share of the teacher's variance, and their mean ("loss").

    Keys, on which the matching hangs, count double. images [N, 3, H, W] normalised. No gradient enters the teacher.
    """
    found = encoder_outputs(network, images)
    kind = images.device.type
    half = torch.is_autocast_enabled(kind)
    teacher = teacher.to(images.device, torch.get_autocast_dtype(kind) if half else images.dtype)
    with torch.no_grad(), torch.autocast(kind, enabled=False):
        wanted = encoder_outputs(teacher, images.to(next(teacher.parameters()).dtype))
    shares = {}
    for name, target in wanted.items():
        target = target.float()
        variance = target.var((0, 2, 3), correction=0).mean()
        shares[name] = (found[name].float() - target).square().mean() / variance.clamp_min(1e-6)
    return {"loss": (sum(shares.values()) + shares["key"]) / (len(shares) + 1), **shares}


def copy_common(network: SmallTracker, teacher: SmallTracker) -> None:
    """Give ``network`` the teacher's layers behind the key encoder; the two must have the same sizes there."""
    state = {key: value for key, value in teacher.state_dict().items() if not key.startswith(_OWN)}
    missing = network.load_state_dict(state, strict=False).missing_keys
    wrong = [key for key in missing if not key.startswith(_OWN)]
    if wrong:
        raise ValueError(f"the teacher lacks {', '.join(wrong[:5])}.")


def imitating_parameters(network: SmallTracker) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters that make ``encoder_outputs``, and the others."""
    pairs = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    own = [p for name, p in pairs if name.startswith(_OWN)]
    return own, [p for name, p in pairs if not name.startswith(_OWN)]
