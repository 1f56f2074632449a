"""The published ir-CSN weights (Caffe2 pickles of the Video Model Zoo), under the names of our encoder.

Such a file is a pickle of a dictionary of arrays. It is read with an unpickler that knows NumPy arrays and
nothing else, so that nothing in it can be executed.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pliant.errors import WeightsError

__all__ = ["read_caffe2_csn"]

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}
# Number of a convolution in a Caffe2 block -> ours; 2 is skipped there.
_CONVOLUTIONS = ((1, "1"), (3, "2"), (4, "3"))
_NORM = (("s", "weight"), ("b", "bias"), ("rm", "running_mean"), ("riv", "running_var"))  # riv: no inverse, despite


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise WeightsError(f"the file wants to run {module}.{name}: it holds more than arrays.")
        return super().find_class(module, name)


def read_caffe2_csn(path: str | Path, blocks: tuple[int, int, int, int] = (3, 8, 36, 3)) -> dict[str, Tensor]:
    """State dict of a ``ChannelSeparatedResNet`` with ``blocks``, float32, without the classifier.

    Its batch norms want eps 1e-3. Raises ``WeightsError`` where the file is no such pickle, wants to execute
    something, or lacks a tensor.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _Arrays(file, encoding="latin-1").load()
        blobs = content["blobs"]
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (OSError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is no Caffe2 file of weights: {error}.") from error
    result: dict[str, Tensor] = {}

    def take(source: str, target: str) -> None:
        if source not in blobs:
            raise WeightsError(f"{path} has no tensor {source}; expected an ir-CSN of {sum(blocks)} blocks.")
        result[target] = torch.from_numpy(np.array(blobs[source], np.float32))

    def norm(source: str, target: str) -> None:
        for theirs, ours in _NORM:
            take(f"{source}_{theirs}", f"{target}.{ours}")

    take("conv1_w", "stem.conv1.weight")
    norm("conv1_spatbn_relu", "stem.bn1")
    number = 0
    for layer, count in enumerate(blocks, start=1):
        for block in range(count):
            place = f"layer{layer}.{block}"
            for theirs, ours in _CONVOLUTIONS:
                take(f"comp_{number}_conv_{theirs}_w", f"{place}.conv{ours}.weight")
                norm(f"comp_{number}_spatbn_{theirs}", f"{place}.bn{ours}")
            if block == 0:
                take(f"shortcut_projection_{number}_w", f"{place}.downsample.0.weight")
                norm(f"shortcut_projection_{number}_spatbn", f"{place}.downsample.1")
            number += 1
    return result
