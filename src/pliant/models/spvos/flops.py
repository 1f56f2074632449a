"""Operations and parameters by the paper's conventions, which its tables fix to every digit.

One multiply-add counts one; a bias adds one per output value. Batch norms, activations, pooling, upsampling and
matching count nothing. Sizes are padded to multiples of 16. A video costs Q on every frame, M per object on every
memorised frame (the first and every fifth, never the last), D on every frame but the first: per object, and its skip
convolutions once. The paper averages over all 1999 frames of DAVIS-2017 val. Parameters are MiB of float32 over
parameters and batch-norm statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pliant.models.spvos.layers import module_of

__all__ = ["DAVIS_2017_VAL", "LayerCost", "Video", "average", "layer_costs", "parameter_mib"]

Strategy = str  # "fully", "semi-mixed" or "mixed"


@dataclass(frozen=True)
class Video:
    """What a video's cost depends on: frames, objects, and its columns at 480 rows, padded."""

    frames: int
    objects: int
    columns: int = 864


# Its 30 videos; all but two are 854 columns wide.
DAVIS_2017_VAL = {
    "bike-packing": Video(69, 2, 912), "blackswan": Video(50, 1), "bmx-trees": Video(80, 2),
    "breakdance": Video(84, 1), "camel": Video(90, 1), "car-roundabout": Video(75, 1), "car-shadow": Video(40, 1),
    "cows": Video(104, 1), "dance-twirl": Video(90, 1), "dog": Video(60, 1), "dogs-jump": Video(66, 3),
    "drift-chicane": Video(52, 1), "drift-straight": Video(50, 1), "goat": Video(90, 1), "gold-fish": Video(78, 5),
    "horsejump-high": Video(50, 2), "india": Video(81, 3), "judo": Video(34, 2), "kite-surf": Video(50, 3),
    "lab-coat": Video(47, 5), "libby": Video(49, 1), "loading": Video(50, 3), "mbike-trick": Video(79, 2),
    "motocross-jump": Video(40, 2), "paragliding-launch": Video(80, 3), "parkour": Video(100, 1),
    "pigs": Video(79, 3), "scooter-black": Video(43, 2), "shooting": Video(40, 3, 1152), "soapbox": Video(99, 3),
}  # fmt: skip


@dataclass(frozen=True)
class LayerCost:
    """One evaluation of a layer at a given size of the frame."""

    name: str
    module: str  # Q, M or D
    per_object: bool  # False: once a frame
    macs: int  # of the convolution itself
    bias: int  # additions of its bias
    positions: int  # of its output
    gate: int = 0  # multiply-adds of its gate, where it is sparse; dense frames do not evaluate gates

    @property
    def dense(self) -> int:
        return self.macs + self.bias

    def sparse(self, share: float) -> float:
        """Operations on a sparse frame that computes ``share`` of the positions."""
        return self.dense if not self.gate else self.macs * share + self.bias + self.gate


def layer_costs(network: nn.Module, rows: int = 480, columns: int = 864) -> list[LayerCost]:
    """Every convolution and linear layer of a tracking network on a frame of rows x columns, padded, one object.

    Nothing is computed: shapes alone are passed through a copy of the network.
    """
    rows, columns = rows + -rows % 16, columns + -columns % 16
    network = _without_storage(network).eval()
    network.strategy = "mixed"  # its annotated frames evaluate no gate
    found: list[LayerCost] = []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) or (hasattr(layer, "kernel_size") and hasattr(layer, "weight")):
            layer.register_forward_hook(
                lambda layer, _, output, name=name: found.append(_layer_cost(name, layer, output))
            )
    image = torch.zeros(1, 3, rows, columns, device="meta")
    with torch.no_grad():
        state = network.start(image, torch.zeros(1, rows, columns, device="meta"))
        first = [cost for cost in found if cost.module != "D"]
        found.clear()
        if hasattr(state, "query"):
            state.query.clear()  # without a past, gated layers run dense
        network.step(state, torch.zeros_like(image))
    return first + [cost for cost in found if cost.module == "D"]


def _without_storage(network: nn.Module) -> nn.Module:
    """A copy on the device "meta", for which nothing is copied."""
    memo = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in network.parameters()}
    memo |= {id(b): torch.empty_like(b, device="meta") for b in network.buffers()}
    return copy.deepcopy(network, memo)


def _layer_cost(name: str, layer: nn.Module, output: Tensor) -> LayerCost:
    bias = 0 if layer.bias is None else output.numel()
    positions = output[0, 0].numel() if output.ndim == 4 else 1
    macs = positions * layer.weight.numel()
    gate = 0
    if getattr(layer, "gate", None) is not None:
        gate = positions * layer.gate.weight.numel()
    per_object = module_of(name) != "Q" and not name.endswith("skip_conv")
    return LayerCost(name, module_of(name), per_object, macs, bias, positions, gate)


def average(
    network: nn.Module,
    share: float = 1.0,
    *,
    strategy: Strategy = "mixed",
    videos: Iterable[Video] = tuple(DAVIS_2017_VAL.values()),
    memory_every: int = 5,
) -> dict[str, float]:
    """Operations per frame of Q, M and D and their ``total``, averaged over all frames of ``videos``.

    share: of output positions that gated layers compute on sparse frames. strategy: which frames are sparse (see
    ``Sparsity``). A network without gates has one answer.
    """
    sums = dict.fromkeys("QMD", 0.0)
    frames = 0
    costs = {}
    for video in videos:
        if video.columns not in costs:
            costs[video.columns] = layer_costs(network, 480, video.columns)
        for cost in costs[video.columns]:
            dense, sparse = _evaluations(video, cost.module, strategy, memory_every)
            objects = video.objects if cost.per_object else 1
            sums[cost.module] += objects * (dense * cost.dense + sparse * cost.sparse(share))
        frames += video.frames
    result = {module: total / frames for module, total in sums.items()}
    return result | {"total": sum(result.values())}


def _evaluations(video: Video, module: str, strategy: Strategy, memory_every: int) -> tuple[int, int]:
    """How often a layer of ``module`` runs dense and sparse in ``video``."""
    last = video.frames - 1
    memory = sum(1 for t in range(video.frames) if t == 0 or (t % memory_every == 0 and t < last))
    runs = {"Q": video.frames, "M": memory, "D": last}[module]
    first = {"Q": 1, "M": 1, "D": 0}[module]  # runs on the annotated frame
    dense = {
        "fully": 0,
        "semi-mixed": first,
        "mixed": {"Q": memory, "M": memory, "D": memory - 1}[module],
    }[strategy]
    return dense, runs - dense


def parameter_mib(network: nn.Module, *, statistics: bool = True) -> float:
    """The paper's "Params": MiB of float32, parameters and (it counts these for STCN, not for XMem) norm statistics."""
    count = sum(p.numel() for p in network.parameters())
    if statistics:
        count += sum(b.numel() for b in network.buffers() if b.is_floating_point())
    return count * 4 / 2**20
