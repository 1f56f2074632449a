"""Every network of the family, literally: a name, who builds it, and what differs from the dense network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BUILDERS", "PRESETS", "Preset"]

# builder -> module:function of a preset's options
BUILDERS = {
    "stcn": "pliant.models.spvos.network:STCN",
    "sparse": "pliant.models.spvos.sparse_network:SparseSTCN",
    "small": "pliant.models.spvos.small:build",
    "small_sparse": "pliant.models.spvos.small_sparse:build",
}


@dataclass(frozen=True)
class Preset:
    """One network: ``builder`` (a key of ``BUILDERS``) called with ``options`` as keywords."""

    builder: str
    options: Mapping[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "stcn": Preset("stcn"),
    "spvos_small": Preset("small"),
    "spvos_light": Preset(
        "small",
        {"encoder": "mobilenet_v2", "decoder_channels": (128, 64, 32), "memory_channels": (32, 64, 128)},
    ),
    "spvos_small_triple": Preset("small_sparse"),
    "spvos_small_static": Preset("small_sparse", {"method": "static"}),
    "spvos_small_residual": Preset("small_sparse", {"method": "residual"}),
    "spvos_small_triple_fully": Preset("small_sparse", {"strategy": "fully"}),
    "spvos_small_static_fully": Preset("small_sparse", {"method": "static", "strategy": "fully"}),
    "spvos_small_residual_fully": Preset("small_sparse", {"method": "residual", "strategy": "fully"}),
    # Table I, and the last row of Table II: Q and D sparse, memory frames dense. Table V is ``temperature``.
    "spvos_static": Preset("sparse", {"method": "static"}),
    "spvos_residual": Preset("sparse", {"method": "residual", "target": None}),
    "spvos_triple": Preset("sparse", {"method": "triple"}),
    # Table II: more frames sparse, with the memory encoder ("_m") and without
    "spvos_static_fully_m": Preset("sparse", {"method": "static", "modules": "QMD", "strategy": "fully"}),
    "spvos_static_fully": Preset("sparse", {"method": "static", "strategy": "fully"}),
    "spvos_static_semi_m": Preset("sparse", {"method": "static", "modules": "QMD", "strategy": "semi-mixed"}),
    "spvos_static_semi": Preset("sparse", {"method": "static", "strategy": "semi-mixed"}),
    "spvos_residual_fully_m": Preset(
        "sparse", {"method": "residual", "modules": "QMD", "strategy": "fully", "target": None}
    ),
    "spvos_residual_fully": Preset("sparse", {"method": "residual", "strategy": "fully", "target": None}),
    "spvos_residual_semi_m": Preset(
        "sparse", {"method": "residual", "modules": "QMD", "strategy": "semi-mixed", "target": None}
    ),
    "spvos_residual_semi": Preset("sparse", {"method": "residual", "strategy": "semi-mixed", "target": None}),
    "spvos_triple_fully_m": Preset("sparse", {"method": "triple", "modules": "QMD", "strategy": "fully"}),
    "spvos_triple_fully": Preset("sparse", {"method": "triple", "strategy": "fully"}),
    "spvos_triple_semi_m": Preset("sparse", {"method": "triple", "modules": "QMD", "strategy": "semi-mixed"}),
    "spvos_triple_semi": Preset("sparse", {"method": "triple", "strategy": "semi-mixed"}),
    # Table III: one module sparse; "every" are the dagger rows
    "spvos_static_q": Preset("sparse", {"method": "static", "modules": "Q"}),
    "spvos_static_d": Preset("sparse", {"method": "static", "modules": "D"}),
    "spvos_residual_q": Preset("sparse", {"method": "residual", "modules": "Q", "target": None}),
    "spvos_residual_d": Preset("sparse", {"method": "residual", "modules": "D", "target": None}),
    "spvos_triple_q": Preset("sparse", {"method": "triple", "modules": "Q"}),
    "spvos_triple_d": Preset("sparse", {"method": "triple", "modules": "D"}),
    "spvos_triple_every_q": Preset("sparse", {"method": "triple", "modules": "Q", "every": True}),
    "spvos_triple_every_d": Preset("sparse", {"method": "triple", "modules": "D", "every": True}),
    "spvos_triple_every": Preset("sparse", {"method": "triple", "every": True}),
}
