"""Where a frame's time and multiply-adds go, layer by layer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pliant.inference.tracker import Tracker
from pliant.ops.packing import packed_forms

__all__ = ["LayerTime", "Profile", "Watch", "profile_tracking", "scene"]

COMPUTE = 2


@dataclass(slots=True)
class LayerTime:
    """A layer, or a kind of operation without weights, averaged over frames."""

    name: str
    part: str  # of the network; "-" without weights
    milliseconds: float = 0.0
    gmacs: float = 0.0  # 1e9 multiply-adds that were computed


@dataclass(frozen=True)
class Profile:
    """Averages a frame: ``layers`` (slowest first), the sums of each part, and the whole frame without observation."""

    layers: list[LayerTime]
    parts: dict[str, LayerTime]
    milliseconds: float
    frames: int


class Watch(TorchDispatchMode):
    """Within the block times every operation and books it, with its multiply-adds, on the layer whose weight it takes.

    Only what runs without autograd is seen. ``layers``: by name, summed over all that ran.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.layers: dict[str, LayerTime] = {}
        self._parameters = dict(network.named_parameters())
        self._names = {p.data_ptr(): name for name, p in self._parameters.items()}
        self._part_of = getattr(network, "part_of", lambda name: name.split(".")[0])

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        begin = time.perf_counter()
        result = function(*args, **(kwargs or {}))
        spent = 1000 * (time.perf_counter() - begin)
        weight = next((a for a in args[1:3] if isinstance(a, Tensor) and a.dim() in (2, 4) and self._name(a)), None)
        if weight is None:
            name, part, work = str(function.overloadpacket).removeprefix("aten."), "-", 0.0
        else:
            name = self._name(weight).removesuffix(".weight")
            part, work = self._part_of(name), _multiply_adds(args, weight, result)
        layer = self.layers.setdefault(name, LayerTime(name, part))
        layer.milliseconds += spent
        layer.gmacs += work / 1e9
        return result

    def _name(self, weight: Tensor) -> str | None:
        if weight.data_ptr() not in self._names:  # a gate's weights, in the order in which it uses them
            for name, parameter in self._parameters.items():
                if any(form.data_ptr() == weight.data_ptr() for form in packed_forms(parameter)):
                    self._names[weight.data_ptr()] = name
        return self._names.get(weight.data_ptr())


def _multiply_adds(args: tuple, weight: Tensor, result: Tensor | None) -> float:
    policy = next((a for a in args if isinstance(a, Tensor) and a.dtype == torch.uint8), None)
    if policy is not None:
        return float((policy == COMPUTE).sum()) * weight.numel()
    if not isinstance(result, Tensor) or result.dim() < 2:
        return 0.0
    return result.numel() / len(weight) * weight.numel()


def scene(count: int, objects: int, height: int = 480, width: int = 854) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures [H, W, 3] uint8 of textured squares that move over a moving texture, and labels [H, W] uint8."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(20, 160, (24, 40, 3), np.uint8), (width + 4 * count, height))
    side = min(height // 3, width // (objects + 1))
    things = [cv2.resize(rng.integers(90, 255, (8, 8, 3), np.uint8), (side, side)) for _ in range(objects)]
    for t in range(count):
        image, labels = ground[:, 2 * t : 2 * t + width].copy(), np.zeros((height, width), np.uint8)
        for k, thing in enumerate(things):
            y, x = (height - side) // 2 + (2 * t if k % 2 else -2 * t), k * width // objects + 4 * t
            y, x = min(max(y, 0), height - side), min(x, width - side)
            image[y : y + side, x : x + side] = thing
            labels[y : y + side, x : x + side] = k + 1
        yield image, labels


def profile_tracking(
    network: nn.Module, *, size: int = 480, objects: int = 1, frames: int = 6, memory_every: int = 3
) -> Profile:
    """Time and multiply-adds a frame of a tracking network (as ``prepare`` leaves it) on a made scene of 480 x 854.

    frames: how many are averaged, after as many to warm up; a multiple of ``memory_every`` has memory frames in their
    true share. Observing each operation costs some microseconds; ``Profile.milliseconds`` is measured without.
    """
    pictures = list(scene(3 * frames + 1, objects))
    tracker = Tracker(network, size=size, memory_every=memory_every)
    tracker.add_objects(*pictures[0])
    for image, _ in pictures[1 : frames + 1]:
        tracker.step(image)
    begin = time.perf_counter()
    for image, _ in pictures[frames + 1 : 2 * frames + 1]:
        tracker.step(image)
    whole = 1000 * (time.perf_counter() - begin) / frames
    with Watch(network) as watch:
        for image, _ in pictures[2 * frames + 1 :]:
            tracker.step(image)
    parts: dict[str, LayerTime] = {}
    for layer in watch.layers.values():
        layer.milliseconds /= frames
        layer.gmacs /= frames
        part = parts.setdefault(layer.part, LayerTime(layer.part, layer.part))
        part.milliseconds += layer.milliseconds
        part.gmacs += layer.gmacs
    layers = sorted(watch.layers.values(), key=lambda layer: -layer.milliseconds)
    return Profile(layers, dict(sorted(parts.items())), whole, frames)
