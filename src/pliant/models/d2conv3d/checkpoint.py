"""Names of the official checkpoints of 3DC-Seg and d2conv3d, and ours.

Three layouts are known by their keys: d2conv3d (``decoder.gc.``), 3DC-Seg (``decoders.0.``) and a bare 3-D
encoder (``layer1.0.conv1.weight``, with or without a classifier). What acts on nothing is dropped:
classifier, mask input, unused heads, batch counters, and the constants of the input, which are part of the
preset.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from pliant.errors import WeightsError

__all__ = ["from_official", "to_official", "to_official_name"]

# (official, ours), as prefixes after the layout's own module name is settled; the first that fits counts.
_DECODER = (
    ("gc.conv_l1.", "global_convolution.left.0."),
    ("gc.conv_l2.", "global_convolution.left.1."),
    ("gc.conv_r1.", "global_convolution.right.0."),
    ("gc.conv_r2.", "global_convolution.right.1."),
    ("convG1.", "residual1."),
    ("convG2.", "residual2."),
    ("rf3.", "refine16."),
    ("rf2.", "refine8."),
    ("rf1.", "refine4."),
    ("pred.", "prediction."),
)
_REFINEMENT = (
    ("convFS1.", "skip1."),
    ("convFS2.", "skip2."),
    ("convFS3.", "skip3."),
    ("convMM1.", "merge1."),
    ("convMM2.", "merge2."),
)
# Rows of the layer that predicts rates and modulation: the presets that it may belong to.
_PRESETS_BY_ROWS = {
    1: "d2conv3d_i_unmodulated",
    2: "d2conv3d_ii_unmodulated or d2conv3d_shared_xy_unmodulated",
    3: "d2conv3d_iii",
    28: "d2conv3d_i",
    29: "d2conv3d_ii or d2conv3d_shared_xy",
    30: "d2conv3d",
    81: "d2conv3d_dcnv1",
    108: "d2conv3d_dcnv2",
}
# 3DC-Seg's decoder names for those of d2conv3d; its refinement convolutions stand in no sequence.
_THREEDC_DECODER = (("GC.", "gc."), ("RF4.", "rf3."), ("RF3.", "rf2."), ("RF2.", "rf1."), ("pred2.", "pred."))
_UNUSED = re.compile(
    r"(^|\.)(num_batches_tracked|mean|std)$|(^|\.)fc\.|conv1_p\.|^decoders\.0\.pred[345]\.|^encoder\.res[2-5]\."
)


def from_official(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Our state dict of an official one, for ``network``; what does not fit stays under its own name.

    A bare encoder fills the encoder and leaves the decoder of ``network`` as it is. Raises ``WeightsError``
    where a 3-D network names one tensor twice with different contents.
    """
    # The experiment class of d2conv3d wraps the network once more.
    if all(key.startswith("model.") for key in state):
        state = {key.removeprefix("model."): value for key, value in state.items()}
    kept = {key: value for key, value in state.items() if not _UNUSED.search(key) or _keeps(key, network)}
    if any(key.startswith("decoders.0.") for key in kept):
        kept = _from_threedc(kept, network)
    elif not any(key.startswith("decoder.") for key in kept):
        bare = {key: f"encoder.{_stem(key, network)}" for key in kept}
        encoder = {ours: kept[key] for key, ours in bare.items()}
        rest = {key: value for key, value in network.state_dict().items() if not key.startswith("encoder.")}
        return encoder | rest
    state = {_to_ours(key): value for key, value in kept.items()}
    _check_variant(state, network)
    return state


def to_official(network: nn.Module) -> dict[str, Tensor]:
    """State dict of ``network`` under official names: those of its own code (3DC-Seg, or d2conv3d)."""
    original = not network.preset.revised
    return {to_official_name(key, original): value for key, value in network.state_dict().items()}


def to_official_name(key: str, original: bool = False) -> str:
    """d2conv3d's name of a tensor or module of ours; 3DC-Seg's where ``original``."""
    if key.startswith("encoder."):
        return _plain_stem(key) if original else key
    return _decoder_to_official(key.removeprefix("decoder."), original)


def _check_variant(state: dict[str, Tensor], network: nn.Module) -> None:
    key = "decoder.refine16.skip1.0.deform_params.weight"
    expected = network.state_dict().get(key)
    if key not in state or (expected is not None and len(expected) == len(state[key])):
        return
    rows = len(state[key])
    fits = _PRESETS_BY_ROWS.get(rows, "none of the presets")
    raise WeightsError(f"the checkpoint's layers predict {rows} channels each, as those of {fits} do.")


def _keeps(key: str, network: nn.Module) -> bool:
    """Batch counters of trainable norms are part of our networks too."""
    return key.endswith("num_batches_tracked") and _to_ours(key) in network.state_dict()


def _to_ours(key: str) -> str:
    if not key.startswith("decoder."):
        return key
    rest = _swap(key.removeprefix("decoder."), _DECODER)
    module, _, tail = rest.partition(".")
    return f"decoder.{module}.{_swap(tail, _REFINEMENT)}"


def _from_threedc(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """d2conv3d's names for a 3DC-Seg state: tied names united, unused second decoder dropped."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("decoders.0."):
            key = "decoder." + _swap(key.removeprefix("decoders.0."), _THREEDC_DECODER)
            key = re.sub(r"(rf\d\.conv[FM][SM]\d)\.", r"\1.0.", key)
        elif key.startswith("encoder."):
            key = "encoder." + _stem(key.removeprefix("encoder.").removeprefix("resnet."), network)
        elif key.startswith("decoder."):
            continue
        if key in result and not torch.equal(result[key], value):
            raise WeightsError(f"the checkpoint holds two different tensors for {key}: is it half converted?")
        result[key] = value
    return result


def _stem(key: str, network: nn.Module) -> str:
    """conv1, bn1 -> stem.conv1, stem.bn1 (csn); conv1.0 ... -> stem.0 ... (r2plus1d)."""
    if network.preset.encoder.kind == "r2plus1d":
        return re.sub(r"^conv1\.", "stem.", key)
    return re.sub(r"^(conv1|bn1)\.", r"stem.\1.", key)


def _plain_stem(key: str) -> str:
    key = re.sub(r"^encoder\.stem\.(conv1|bn1)\.", r"encoder.\1.", key)
    return re.sub(r"^encoder\.stem\.(\d)\.", r"encoder.conv1.\1.", key)


def _decoder_to_official(key: str, original: bool) -> str:
    key = _swap(key, [(ours, official) for official, ours in _DECODER])
    module, _, tail = key.partition(".")
    key = f"{module}.{_swap(tail, [(ours, official) for official, ours in _REFINEMENT])}"
    if not original:
        return f"decoder.{key}"
    key = re.sub(r"(conv[FM][SM]\d)\.0\.", r"\1.", key)
    return "decoders.0." + _swap(key, [(revised, name) for name, revised in _THREEDC_DECODER])


def _swap(key: str, pairs: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
