"""Which convolutions SpVOS makes sparse, by name (section III of the paper; its parameter rows fix the choice).

Q, M and D are the paper's query encoder, memory encoder and decoder. ``every`` stands for its rows marked with a
dagger, where shortcuts, projections, skip convolutions and the prediction are sparse too.
"""

from __future__ import annotations

from torch import nn

__all__ = ["MODULES", "gated_layers", "module_of"]

# Top-level parts of the network -> the paper's module
MODULES = {
    **dict.fromkeys(("key_encoder", "key_proj", "key_comp", "key", "context"), "Q"),
    "value_encoder": "M",
    "decoder": "D",
}
_DECODER_STAGES = ("start", "block8", "block4")  # of the small tracker, whose gates stand beside its modules
# What the dagger rows add; the stem stays dense.
_EVERY = {
    "Q": ("downsample.0", "key_proj.key_proj", "key_comp"),
    "D": ("downsample", "skip_conv", "pred"),
}
_NEVER = ("spatial.conv",)  # the spatial gate of CBAM


def module_of(name: str) -> str:
    """Q, M or D for the full name of a layer."""
    first, *rest = name.split(".")
    if first == "gate":
        return "D" if rest[0] in _DECODER_STAGES else "Q"
    return MODULES[first]


def gated_layers(network: nn.Module, modules: str, every: bool = False) -> list[str]:
    """Names of the convolutions that are sparse when ``modules`` (letters of "QMD") are.

    In Q and M these are conv1, conv2 (and conv3) of all residual blocks: 39 and 16; in D those of the three residual
    blocks: 6. With ``every``, 44 in Q and 11 in D. Raises ``ValueError`` for other letters.
    """
    if set(modules) - set("QMD") or not modules:
        raise ValueError(f"modules must be letters of 'QMD', got {modules!r}")
    if every and "M" in modules:
        raise ValueError("every layer of Q and D can be sparse, of M only the residual blocks: leave M out")
    result = []
    for name, layer in network.named_modules():
        if not hasattr(layer, "kernel_size") or name.endswith((*_NEVER, ".gate")):
            continue
        module = module_of(name)
        block_layer = name.rsplit(".", 1)[-1] in ("conv1", "conv2", "conv3") and name.count(".") >= 2
        if module in modules and (block_layer or (every and name.endswith(_EVERY[module]))):
            result.append(name)
    return result
