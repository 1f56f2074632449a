"""Between people's pictures and networks: sizes, padding, normalisation, precision. The one place for it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.inference.allocator import keep_freed_memory
from pliant.nn.memory_format import channels_last

__all__ = ["Geometry", "as_image", "as_labels", "prepare", "resolve_precision"]

_MEAN = (0.485, 0.456, 0.406)
_STANDARD_DEVIATION = (0.229, 0.224, 0.225)


def resolve_precision(precision: str = "auto", device: str | torch.device = "cpu") -> torch.dtype:
    """bfloat16 where it pays ("auto": a GPU, or a CPU with AMX or AVX512_BF16), else float32.

    "bf16" and "fp32" decide. On a Zen 4, which has no AMX, ``spvos_light`` runs 1.5 times as fast in bfloat16.
    Raises ``ValueError`` for another word.
    """
    words = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if precision in words:
        return words[precision]
    if precision != "auto":
        raise ValueError(f"precision must be auto, bf16 or fp32, got {precision!r}.")
    cpu = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    fast = torch.device(device).type == "cuda" or cpu
    return torch.bfloat16 if fast else torch.float32


def prepare(network: nn.Module, precision: str = "auto", device: str | torch.device = "cpu") -> nn.Module:
    """``network`` ready for inference: eval mode, on ``device``, in its precision, weights channels-last.

    Frozen batch norms are folded into the convolutions before them where the network offers it (``fold``).
    On the CPU the process also keeps freed memory for the next frame (``keep_freed_memory``).
    """
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    network = network.eval().requires_grad_(False)
    if hasattr(network, "fold"):
        network.fold()  # in the weights' own precision, so before the conversion
    network = network.to(device=device, dtype=resolve_precision(precision, device))
    return channels_last(network)


def as_image(image: np.ndarray | Tensor) -> np.ndarray:
    """[H, W, 3] uint8 RGB from an array or tensor; raises ``ValueError`` or ``TypeError`` for anything
    else.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"an image must be uint8 (0 to 255), got {image.dtype}.")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image must be [H, W, 3] RGB, got {list(image.shape)}.")
    return image


def as_labels(labels: np.ndarray | Tensor, image: np.ndarray) -> np.ndarray:
    """[H, W] uint8 labels that fit ``image``; bool counts as object 1. Raises ``ValueError`` or
    ``TypeError``.
    """
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    labels = np.asarray(labels)
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels are {list(labels.shape)}, the image is {list(image.shape[:2])}: they must agree.")
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers 0 to 255, got {labels.dtype}.")
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ValueError(f"labels must lie in 0..255, got {labels.min()}..{labels.max()}.")
    return labels.astype(np.uint8)


@dataclass(frozen=True)
class Geometry:
    """How a picture of ``height`` x ``width`` becomes the network's input, and back.

    The short side becomes ``size`` (small pictures are enlarged at most twice), then both sides are padded to
    multiples of ``stride``, half on each side. stretched: both sides become ``size``, rounded to a multiple of
    ``stride``, whatever the picture's shape.
    """

    height: int
    width: int
    size: int
    stride: int
    stretched: bool = False

    @property
    def inner(self) -> tuple[int, int]:
        """Rows and columns after scaling."""
        if self.stretched:
            side = max(1, round(self.size / self.stride)) * self.stride
            return side, side
        factor = min(self.size / min(self.height, self.width), 2.0)
        return max(1, round(self.height * factor)), max(1, round(self.width * factor))

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom."""
        rows, columns = self.inner
        down, across = -rows % self.stride, -columns % self.stride
        return across // 2, across - across // 2, down // 2, down - down // 2

    def image(self, image: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Normalised [1, 3, H', W'], channels-last, zeros as padding."""
        rows, columns = self.inner
        if (rows, columns) != image.shape[:2]:
            shrink = rows < image.shape[0]
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        left, right, top, bottom = self.padding
        image = np.ascontiguousarray(image)
        pixels = torch.from_numpy(image if image.flags.writeable else image.copy()).to(device)
        padded = torch.zeros(top + rows + bottom, left + columns + right, 3, dtype=dtype, device=device)
        mean, deviation = (torch.tensor(v, device=device) * 255 for v in (_MEAN, _STANDARD_DEVIATION))
        padded[top : top + rows, left : left + columns] = pixels.float().sub_(mean).mul_(1 / deviation)
        return padded.permute(2, 0, 1)[None]

    def masks(self, labels: np.ndarray, ids: list[int], device: torch.device) -> Tensor:
        """Masks [K, H', W'] in [0, 1] of ``ids``; where scaled down, the share of a pixel that is covered."""
        rows, columns = self.inner
        planes = []
        for identity in ids:
            plane = (labels == identity).astype(np.float32)
            if (rows, columns) != labels.shape:
                shrink = rows < labels.shape[0]
                plane = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
            planes.append(plane)
        masks = torch.from_numpy(np.stack(planes)) if planes else torch.zeros(0, rows, columns)
        return F.pad(masks.to(device), self.padding)

    def back(self, probabilities: Tensor) -> Tensor:
        """Probabilities [..., H', W'] at the picture's own size, bilinear (so that edges stay smooth)."""
        left, _, top, _ = self.padding
        rows, columns = self.inner
        inside = probabilities[..., top : top + rows, left : left + columns]
        if (rows, columns) == (self.height, self.width):
            return inside
        return F.interpolate(inside[None], (self.height, self.width), mode="bilinear", align_corners=False)[0]
