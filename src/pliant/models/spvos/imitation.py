"""Distillation between two small trackers: one learns to see and to follow as the other does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant.losses.segmentation import dice
from pliant.models.spvos.small import SmallTracker
from pliant.nn.fused_conv import conv2d

__all__ = ["encoder_outputs", "following_loss", "imitation_loss"]


def encoder_outputs(network: SmallTracker, images: Tensor) -> dict[str, Tensor]:
    """What the matching takes from the key encoder: images [N, 3, H, W] -> "key" and "context" [N, C, h, w]."""
    *_, f16 = network.key_encoder(images.contiguous(memory_format=torch.channels_last))
    return {"key": conv2d(network.key, f16), "context": conv2d(network.context, f16)}


def imitation_loss(network: SmallTracker, teacher: SmallTracker, images: Tensor) -> dict[str, Tensor]:
    """For keys and context the squared error as a share of the teacher's variance, and their mean ("loss").

    Keys, on which the matching hangs, count double. images [N, 3, H, W] normalised. No gradient enters the teacher.
    """
    found = encoder_outputs(network, images)
    teacher, cast = _as_teacher(teacher, images)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        wanted = encoder_outputs(teacher, images.to(cast))
    shares = {name: _share(found[name], target) for name, target in wanted.items()}
    return {"loss": (sum(shares.values()) + shares["key"]) / (len(shares) + 1), **shares}


def following_loss(
    network: SmallTracker,
    teacher: SmallTracker,
    images: Tensor,
    masks: Tensor,
    valid: Tensor,
    memory: list[bool],
    hinted: Tensor | None,
    share: float,
) -> dict[str, Tensor]:
    """How far ``network`` is from following and remembering as ``teacher`` does, on clips whose masks are known.

    "cross_entropy" and "dice" of the predicted masks against the mean of the teacher's and the true ones: the teacher
    says how sure to be, the truth where it erred; of the cross-entropy the hardest ``share`` of each frame's pixels.
    "value": what is remembered of frame 0, squared error as a share of the teacher's variance. "loss": the first two
    plus half of the third.

    images [B, T, 3, H, W] normalised; masks [B, T, K, H, W] in {0, 1}; the others as in ``SmallTracker.forward``.
    """
    found = network(images, masks[:, 0], valid, memory, hinted)
    teacher, cast = _as_teacher(teacher, images)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        shown = images.to(cast)
        wanted = teacher(shown, masks[:, 0], valid, memory, hinted).float().softmax(2)
        remembered = _values(teacher, shown[:, 0], masks[:, 0])
    truth = torch.cat([1 - masks[:, 1:].sum(2, keepdim=True), masks[:, 1:]], 2)
    target = (wanted + truth) / 2
    logarithms = found.float().log_softmax(2)
    entropy = -(target * logarithms).sum(2).flatten(0, 1).flatten(1)
    entropy = entropy.topk(max(1, int(share * entropy.shape[1])), dim=1, sorted=False).values.mean()
    pairs = (x[:, :, 1:].flatten(0, 1) for x in (logarithms.exp(), target))
    overlap = dice(*pairs, valid.repeat_interleave(found.shape[1], 0))
    existing = valid.flatten()
    value = _share(_values(network, images[:, 0], masks[:, 0])[existing], remembered[existing])
    return {"loss": entropy + overlap + value / 2, "cross_entropy": entropy, "dice": overlap, "value": value}


def _values(network: SmallTracker, image: Tensor, masks: Tensor) -> Tensor:
    """What is remembered of images [B, 3, H, W] with masks [B, K, H, W]: [B K, C_v, h, w]."""
    with torch.no_grad():  # the features have losses of their own
        *_, f16 = network.key_encoder(image.contiguous(memory_format=torch.channels_last))
    objects = masks.to(image.dtype)
    others = objects.sum(1, keepdim=True) - objects
    planes = (x.flatten(0, 1)[:, None] for x in (objects, others))
    return network.value_encoder(image.repeat_interleave(masks.shape[1], 0), *planes, f16)


def _share(found: Tensor, target: Tensor) -> Tensor:
    target = target.float()
    variance = target.var((0, 2, 3), correction=0).mean()
    return F.mse_loss(found.float(), target) / variance.clamp_min(1e-6)


def _as_teacher(teacher: SmallTracker, images: Tensor) -> tuple[SmallTracker, torch.dtype]:
    """The teacher on the device of ``images``, in half precision where autocast has the student in it."""
    kind = images.device.type
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else images.dtype
    return teacher.to(images.device, cast), cast
