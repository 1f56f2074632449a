"""What a network with gates does where, as a video: computed, taken from the frame before, or left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.errors import InputError
from pliant.inference.tracker import Tracker
from pliant.nn.sparse_gates import BinaryGate, TripleGate
from pliant.video.encode_video import OverlayVideo

__all__ = ["PolicyVideo", "draw_policy", "shares_of"]

_COLOURS = np.array([[0, 0, 0], [40, 110, 255], [255, 120, 0]], np.float32)  # skip, reuse, compute
_OPACITY = 0.5


def shares_of(records: list[Any], height: int, width: int) -> Tensor:
    """Of skipping, reusing and computing at each pixel, [3, height, width] in [0, 1], summing to 1.

    records: what gated layers did on a frame (``policy`` [N, 1, h, w] uint8, ``cost`` a position), weighted by their
    multiply-adds, averaged over objects. None at all: a dense frame, everything computed.
    """
    total = torch.zeros(3, height, width)
    weights = 0.0
    for record in records:
        chosen = F.one_hot(record.policy[:, 0].long(), 3).float().mean(0).permute(2, 0, 1)  # [3, h, w]
        weight = float(record.cost * record.policy.numel())
        total += weight * F.interpolate(chosen[None], (height, width), mode="nearest")[0]
        weights += weight
    if not records:
        total[2] = 1
    return total / max(weights, 1.0)


def draw_policy(image: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """``image`` [H, W, 3] uint8 RGB in grey; orange where it is computed, blue where reused, dark where skipped.

    shares: [3, H, W] of skip, reuse, compute.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    colours = np.tensordot(shares.astype(np.float32), _COLOURS, axes=(0, 0))
    return np.clip((1 - _OPACITY) * grey + _OPACITY * colours, 0, 255).astype(np.uint8)


class PolicyVideo:
    """``path``: a video of every frame given to ``add``. Raises ``InputError`` for a network without gates."""

    def __init__(self, path: Path, info: Any, network: nn.Module) -> None:
        if not any(isinstance(module, (TripleGate, BinaryGate)) for module in network.modules()):
            raise InputError(
                f"--show-policy: {type(network).__name__} has no gates, it computes every position of every frame; "
                "take a network that has, such as spvos_small_triple."
            )
        self._video = OverlayVideo(path, info)
        self._frames = 0

    def add(self, frame: Any, tracker: Tracker | None) -> None:
        """The next frame as ``tracker`` has just seen it; None (or nothing followed yet): the picture as it is."""
        state = tracker.state.network if tracker is not None else None
        image = frame.image
        if state is not None:
            state.keep_policies = True  # from the next frame on, where that is not done anyway
            geometry = tracker.state.geometry
            records = [record for record in state.records if record.policy is not None]
            shares = geometry.back(shares_of(records, *tracker.state.given.shape[-2:]))
            image = draw_policy(image, shares.numpy())
        self._video.write(image, frame.time_seconds)
        self._frames += 1

    def close(self, *, finished: bool) -> None:
        """Give the file its name, or remove it: unfinished, or without a frame."""
        if finished and self._frames:
            self._video.finish()
        else:
            self._video.discard()
