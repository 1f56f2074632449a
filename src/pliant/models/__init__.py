"""The networks: ``MODELS``, a literal table, and the two functions that read it.

A new family is one folder (``network.py``, ``presets.py``, ``recipe.py``, ``checkpoint.py``, ``README.md``)
and its lines here. A family's package offers ``build(preset_name) -> nn.Module``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pliant.errors import UnknownNameError

__all__ = ["MODELS", "Model", "build", "load", "resolve"]


@dataclass(frozen=True)
class Model:
    """One line of the table: which family builds it, what it is for, and where its weights are."""

    family: str  # folder below pliant/models
    task: Literal["track", "salient", "instances"]
    weights: str | None  # file below pliant/weights, None: bring your own
    summary: str
    speed: Literal["real time", "seconds"] = "seconds"  # of a 480p frame on two CPU cores


MODELS: dict[str, Model] = {
    "rpmnet": Model("rpmnet", "track", "rpmnet.safetensors", "RPM-Net: matching learnt from video without labels"),
    "spvos_small": Model(
        "spvos", "track", "spvos_small.safetensors", "dense memory matching sized for CPUs", "real time"
    ),
    "spvos_light": Model("spvos", "track", "spvos_light.safetensors", "the same for CPUs without AMX", "real time"),
    "spvos_small_triple": Model(
        "spvos", "track", "spvos_small_triple.safetensors", "spvos_small with gates: skip, reuse, compute", "real time"
    ),
    "spvos_small_static": Model("spvos", "track", None, "the same, after DynConv: skip or compute", "real time"),
    "spvos_small_residual": Model("spvos", "track", None, "the same, after Skip-Convolution: differences", "real time"),
    "spvos_small_triple_fully": Model("spvos", "track", None, "spvos_small_triple, all frames sparse", "real time"),
    "spvos_small_static_fully": Model("spvos", "track", None, "spvos_small_static, all frames sparse", "real time"),
    "spvos_small_residual_fully": Model("spvos", "track", None, "spvos_small_residual, all frames sparse", "real time"),
    "stcn": Model("spvos", "track", None, "STCN: dense memory matching, the network SpVOS stands on"),
    "spvos_triple": Model("spvos", "track", None, "SpVOS: STCN with triple sparse convolutions, mixed processing"),
    "spvos_static": Model("spvos", "track", None, "the same with static sparse convolutions, after DynConv"),
    "spvos_residual": Model(
        "spvos", "track", None, "the same with residual sparse convolutions, after Skip-Convolution"
    ),
    "xmem": Model("xmem", "track", None, "XMem: sensory, working and long-term memory, for long videos"),
    "tri_xmem": Model("xmem", "track", None, "Tri-XMem: XMem with SpVOS's triple sparse convolutions"),
    "threedc_seg": Model("d2conv3d", "salient", None, "3DC-Seg: channel-separated ResNet-152, refinement decoder"),
    "threedc_seg_r2plus1d": Model("d2conv3d", "salient", None, "3DC-Seg with an R(2+1)D-34 encoder"),
    "threedc_seg_revised": Model("d2conv3d", "salient", None, "D²Conv3D's revised baseline: GroupNorm, plain"),
    "d2conv3d": Model("d2conv3d", "salient", None, "D²Conv3D: three dilation rates and modulation (IV)"),
    "d2conv3d_i": Model("d2conv3d", "salient", None, "variant I: one spatial rate"),
    "d2conv3d_ii": Model("d2conv3d", "salient", None, "variant II: two spatial rates"),
    "d2conv3d_iii": Model("d2conv3d", "salient", None, "variant III: three rates, no modulation"),
    "d2conv3d_dcnv1": Model("d2conv3d", "salient", None, "with deformable convolutions"),
    "d2conv3d_dcnv2": Model("d2conv3d", "salient", None, "with modulated deformable convolutions"),
    "d2conv3d_aspp": Model("d2conv3d", "salient", None, "with ASPP as the published script has it"),
    "d2conv3d_aspp_all": Model("d2conv3d", "salient", None, "with ASPP for all ten convolutions"),
    "d2conv3d_none": Model("d2conv3d", "salient", None, "rates without activation (Table 2)"),
    "d2conv3d_one_plus_relu": Model("d2conv3d", "salient", None, "rates by 1 + ReLU (Table 2)"),
    "d2conv3d_relu": Model("d2conv3d", "salient", None, "rates by ReLU (Table 2)"),
    "d2conv3d_i_unmodulated": Model("d2conv3d", "salient", None, "variant I without modulation"),
    "d2conv3d_ii_unmodulated": Model("d2conv3d", "salient", None, "variant II without modulation"),
    "d2conv3d_shared_xy": Model("d2conv3d", "salient", None, "rates of time and space, one for y and x"),
    "d2conv3d_shared_xy_unmodulated": Model("d2conv3d", "salient", None, "the same without modulation"),
    "d2conv3d_spatial_dcnv1": Model("d2conv3d", "salient", None, "deformable in space only"),
    "d2conv3d_spatial_dcnv2": Model("d2conv3d", "salient", None, "modulated deformable in space only"),
    "d2conv3d_temporal_dcnv1": Model("d2conv3d", "salient", None, "deformable in time only"),
    "d2conv3d_temporal_dcnv2": Model("d2conv3d", "salient", None, "modulated deformable in time only"),
    "d2conv3d_csn50": Model("d2conv3d", "salient", None, "D²Conv3D on a channel-separated ResNet-50"),
    "salient_small": Model(
        "d2conv3d", "salient", "salient_small.safetensors", "looks, motion and D²Conv3D in small, for CPUs", "real time"
    ),
    "salient_small_plain": Model("d2conv3d", "salient", None, "its first half of training: plain convolutions"),
    "d2conv3d_tiny": Model("d2conv3d", "salient", None, "D²Conv3D in small, for tests and first tries"),
}

# What "default" means: where bfloat16 is fast (a GPU, a CPU with AMX), and elsewhere.
_DEFAULTS = {"track": ("spvos_small", "spvos_light"), "salient": ("salient_small", "salient_small")}


def build(name: str, **options: Any):
    """The network ``name`` of ``MODELS`` with random weights, in float32 and training mode.

    ``options`` replace fields of the preset. Raises ``UnknownNameError`` for a name that is not in the table.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    family = importlib.import_module(f"pliant.models.{MODELS[name].family}")
    return family.build(name, **options)


def resolve(name: str = "default", task: str = "track") -> str:
    """The name that "default" stands for on this machine; any other name of ``MODELS`` as it is.

    Raises ``UnknownNameError`` for a name that is not in the table, or a task without a default.
    """
    if name != "default":
        if name not in MODELS:
            raise UnknownNameError("model", name, MODELS)
        return name
    if task not in _DEFAULTS:
        raise UnknownNameError("task with a default model", task, _DEFAULTS)
    with_bfloat16, without = _DEFAULTS[task]
    return with_bfloat16 if _fast_bfloat16() else without


def _fast_bfloat16() -> bool:
    import torch

    return torch.cuda.is_available() or torch.cpu._is_amx_tile_supported()


def load(name: str = "default", weights: str | Path | None = None, *, task: str = "track", **options: Any):
    """The network ``name`` ready to run: weights loaded, eval mode.

    name: a key of ``MODELS``, or "default": the one that ``weights`` belong to, without them the best
    embedded network of ``task`` for this machine. weights: a safetensors or PyTorch checkpoint; None takes
    the embedded file. Raises ``UnknownNameError``, ``WeightsError`` (no embedded weights, or a file that
    does not fit: it says what the file is, which keys are missing and which are unknown).
    """
    from pliant.weights import embedded, fit_weights, model_in, read_state

    state = None if weights is None else read_state(weights)
    if name == "default":
        name = state and model_in(weights, state)
        name = name or resolve("default", task)
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    if state is None:
        weights = embedded(name, MODELS[name].weights)
        state = read_state(weights)
    family = MODELS[name].family
    checkpoint = importlib.import_module(f"pliant.models.{family}.checkpoint")
    found = checkpoint.options_in(state) if hasattr(checkpoint, "options_in") else {}
    network = build(name, **{**found, **options})
    fit_weights(network, state, weights, family=family, name=name)
    return network.eval()
