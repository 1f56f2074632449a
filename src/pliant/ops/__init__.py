"""The primitives: tensors in, tensors out; no modules, no state.

``OPERATORS`` is the one table: tests, benchmarks, ``pliant ops``, the GPU check and the docs iterate over it.
A folder has the name of its operator, and here that name is the function; to reach a file of the folder write
``from pliant.ops.deform_conv3d import cases``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from pliant.ops.backend import use_backend
from pliant.ops.case import Case
from pliant.ops.deform_attention3d import cases as _deform_attention3d_cases
from pliant.ops.deform_attention3d import cpu as _deform_attention3d_cpu
from pliant.ops.deform_attention3d.op import deform_attention3d
from pliant.ops.deform_attention3d.reference import deform_attention3d_reference as _deform_attention3d
from pliant.ops.deform_conv2d import cases as _deform_conv2d_cases
from pliant.ops.deform_conv2d import cpu as _deform_conv2d_cpu
from pliant.ops.deform_conv2d.op import deform_conv2d
from pliant.ops.deform_conv3d import cases as _deform_conv3d_cases
from pliant.ops.deform_conv3d import cpu as _deform_conv3d_cpu
from pliant.ops.deform_conv3d.op import deform_conv3d
from pliant.ops.deform_conv3d.reference import deform_conv as _deform_conv
from pliant.ops.dynamic_dilated_conv3d import cases as _dynamic_dilated_conv3d_cases
from pliant.ops.dynamic_dilated_conv3d import cpu as _dynamic_dilated_conv3d_cpu
from pliant.ops.dynamic_dilated_conv3d.op import dynamic_dilated_conv3d
from pliant.ops.dynamic_dilated_conv3d.reference import dynamic_dilated_conv as _dynamic_dilated_conv
from pliant.ops.memory_readout import cases as _memory_readout_cases
from pliant.ops.memory_readout import cpu as _memory_readout_cpu
from pliant.ops.memory_readout.op import memory_readout
from pliant.ops.memory_readout.reference import memory_readout_reference as _memory_readout
from pliant.ops.sparse_conv2d import cases as _sparse_conv2d_cases
from pliant.ops.sparse_conv2d import cpu as _sparse_conv2d_cpu
from pliant.ops.sparse_conv2d.op import sparse_conv2d, sparse_conv2d_
from pliant.ops.sparse_conv2d.reference import sparse_conv2d_reference as _sparse_conv2d
from pliant.ops.warp import cases as _warp_cases
from pliant.ops.warp import cpu as _warp_cpu
from pliant.ops.warp.op import warp
from pliant.ops.warp.reference import warp_reference as _warp

__all__ = [
    "OPERATORS",
    "Operator",
    "deform_attention3d",
    "deform_conv2d",
    "deform_conv3d",
    "dynamic_dilated_conv3d",
    "memory_readout",
    "sparse_conv2d",
    "sparse_conv2d_",
    "use_backend",
    "warp",
]


@dataclass(frozen=True)
class Operator:
    """A row of the table.

    function: what people call. reference: the specification, arguments in the order of the registered schema.
    cpu: the module of the native kernels or None. gpu: the name of the module of the Triton kernels or None.
    cases: what is run in tests and benchmarks. formula: one line for tables. source: paper or definition.
    """

    function: Callable
    reference: Callable
    cases: tuple[Case, ...]
    formula: str
    source: str
    cpu: ModuleType | None = None
    gpu: str | None = None


OPERATORS: dict[str, Operator] = {
    "deform_conv2d": Operator(
        deform_conv2d,
        _deform_conv,
        _deform_conv2d_cases.CASES,
        formula="Y(u) = b + Σᵢ Wᵢ Mᵢ(u) X(u s − p + i d + offsetᵢ(u))",
        source="Dai et al. 2017, Zhu et al. 2019",
        cpu=_deform_conv2d_cpu,
        gpu="pliant.ops.deform_conv2d.gpu",
    ),
    "deform_conv3d": Operator(
        deform_conv3d,
        _deform_conv,
        _deform_conv3d_cases.CASES,
        formula="Y(u) = b + Σᵢ Wᵢ Mᵢ(u) X(u s − p + i d + offsetᵢ(u))",
        source="Dai et al. 2017, Zhu et al. 2019, with a third axis",
        cpu=_deform_conv3d_cpu,
        gpu="pliant.ops.deform_conv3d.gpu",
    ),
    "dynamic_dilated_conv3d": Operator(
        dynamic_dilated_conv3d,
        _dynamic_dilated_conv,
        _dynamic_dilated_conv3d_cases.CASES,
        formula="Y(u) = b + Σᵢ Wᵢ Mᵢ(u) X(centre(u) + d (i − (k − 1)/2) D(u))",
        source="Schmidt et al., D²Conv3D, WACV 2022, Eq. 3",
        cpu=_dynamic_dilated_conv3d_cpu,
        gpu="pliant.ops.dynamic_dilated_conv3d.gpu",
    ),
    "deform_attention3d": Operator(
        deform_attention3d,
        _deform_attention3d,
        _deform_attention3d_cases.CASES,
        formula="Y(q, m) = Σₖ Aₖ(q, m) V_m(locationₖ(q, m) · (T, H, W) − ½)",
        source="Yarram et al., Deformable VisTR, ICASSP 2022, Eq. 2",
        cpu=_deform_attention3d_cpu,
        gpu="pliant.ops.deform_attention3d.gpu",
    ),
    "memory_readout": Operator(
        memory_readout,
        _memory_readout,
        _memory_readout_cases.CASES,
        formula="Y(i) = Σⱼ softmaxⱼ(sⱼ (2 kⱼ·qᵢ − |kⱼ|²) / √C) vⱼ",
        source="Cheng et al., STCN, NeurIPS 2021; Cheng and Schwing, XMem, ECCV 2022, Eq. 2",
        cpu=_memory_readout_cpu,
    ),
    "sparse_conv2d": Operator(
        sparse_conv2d,
        _sparse_conv2d,
        _sparse_conv2d_cases.CASES,
        formula="Y(u) = 0, previous(u) or a((W ∗ X)(u) + b + residual(u))",
        source="Lin et al., SpVOS, Eq. 8",
        cpu=_sparse_conv2d_cpu,
        gpu="pliant.ops.sparse_conv2d.gpu",
    ),
    "warp": Operator(
        warp,
        _warp,
        _warp_cases.CASES,
        formula="Y(u) = X(u + offset(u))",
        source="Kim et al., RPM-Net, WACV 2020, layer 109",
        cpu=_warp_cpu,
    ),
}
