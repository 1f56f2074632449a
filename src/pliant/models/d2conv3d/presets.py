"""What differs between the networks: every row of Tables 1 and 2, and what the authors' code adds.

Where the text and the published scripts disagree, the row is the script's, since the table's number belongs
to it (the activations of Table 2 and the extent of ASPP; README.md has the list).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["PRESETS", "Encoder", "Preset", "SmallPreset", "Steering"]

# Means and deviations of pixels in [0, 1], RGB.
_KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
_MEAN_ONLY = ((114.7748 / 255, 107.7354 / 255, 99.4750 / 255), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Encoder:
    """A 3-D encoder: kind, blocks of its four layers, inner width of the first (csn only), eps of its
    batch norms.
    """

    kind: Literal["csn", "r2plus1d"] = "csn"
    blocks: tuple[int, int, int, int] = (3, 8, 36, 3)
    planes: int = 64
    eps: float = 1e-3


@dataclass(frozen=True)
class Steering:
    """The layer that takes the place of the convolutions of the two deepest refinement modules.

    kind: "dynamic" (``DynamicDilatedConv3d``), "deform" (``DeformConv3d``), "aspp" (``ASPP3d`` for the
    first convolution of each module) or "aspp_all" (for all). axes: ``rates`` of the dynamic layer
    ("t,y,x", "y,x", "yx", "t,yx"), ``moving`` of the deformable one ("tyx", "yx", "t"). modulated: whether
    a factor for every tap is predicted too. activation: of the rates.
    """

    kind: Literal["dynamic", "deform", "aspp", "aspp_all"] = "dynamic"
    axes: str = "t,y,x"
    modulated: bool = True
    activation: str = "elu_plus_one"


@dataclass(frozen=True)
class Preset:
    """A clip-wise segmentation network. The fields' defaults are the revised baseline of the D²Conv3D paper.

    steering: None keeps plain convolutions. revised: norms after the convolutions of the refinement
    modules; False is 3DC-Seg. width: channels of the decoder. classes: 1 (sigmoid) or 2 (background,
    foreground: softmax). pixel_mean, pixel_std: of the input that the network expects.
    """

    encoder: Encoder = field(default_factory=Encoder)
    steering: Steering | None = None
    revised: bool = True
    width: int = 256
    classes: Literal[1, 2] = 1
    pixel_mean: tuple[float, float, float] = _KINETICS[0]
    pixel_std: tuple[float, float, float] = _KINETICS[1]


@dataclass(frozen=True)
class SmallPreset:
    """Sizes of ``SmallSegmenter``.

    widths: of the decoder at 1/16, 1/8, 1/4. motion: whether it is told what moves against the camera. steering: of the
    refinement modules at 1/16 and 1/8, as in ``Preset``.
    """

    widths: tuple[int, int, int] = (96, 48, 32)
    motion: bool = True
    steering: Steering | None = field(default_factory=Steering)


def _original(encoder: Encoder) -> Preset:
    return Preset(encoder, None, False, 256, 2, *_MEAN_ONLY)


PRESETS: dict[str, Preset | SmallPreset] = {
    # 3DC-Seg as published runs with eps 1e-5, though its encoder was trained with 1e-3.
    "threedc_seg": _original(Encoder(eps=1e-5)),
    "threedc_seg_r2plus1d": _original(Encoder("r2plus1d", (3, 4, 6, 3))),
    "threedc_seg_revised": Preset(),
    # Table 1
    "d2conv3d": Preset(steering=Steering()),  # IV
    "d2conv3d_i": Preset(steering=Steering(axes="yx")),
    "d2conv3d_ii": Preset(steering=Steering(axes="y,x")),
    "d2conv3d_iii": Preset(steering=Steering(modulated=False)),
    "d2conv3d_dcnv1": Preset(steering=Steering("deform", "tyx", modulated=False)),
    "d2conv3d_dcnv2": Preset(steering=Steering("deform", "tyx")),
    "d2conv3d_aspp": Preset(steering=Steering("aspp")),
    "d2conv3d_aspp_all": Preset(steering=Steering("aspp_all")),
    # Table 2; 1 + elu is d2conv3d
    "d2conv3d_none": Preset(steering=Steering(activation="none")),
    "d2conv3d_one_plus_relu": Preset(steering=Steering(activation="relu_plus_one")),
    "d2conv3d_relu": Preset(steering=Steering(activation="relu")),
    # In the authors' code, in no table
    "d2conv3d_i_unmodulated": Preset(steering=Steering(axes="yx", modulated=False)),
    "d2conv3d_ii_unmodulated": Preset(steering=Steering(axes="y,x", modulated=False)),
    "d2conv3d_shared_xy": Preset(steering=Steering(axes="t,yx")),
    "d2conv3d_shared_xy_unmodulated": Preset(steering=Steering(axes="t,yx", modulated=False)),
    "d2conv3d_spatial_dcnv1": Preset(steering=Steering("deform", "yx", modulated=False)),
    "d2conv3d_spatial_dcnv2": Preset(steering=Steering("deform", "yx")),
    "d2conv3d_temporal_dcnv1": Preset(steering=Steering("deform", "t", modulated=False)),
    "d2conv3d_temporal_dcnv2": Preset(steering=Steering("deform", "t")),
    # Ours: the same network with the smaller encoder, and one for tests
    "d2conv3d_csn50": Preset(Encoder(blocks=(3, 4, 6, 3)), Steering()),
    "salient_small": SmallPreset(),
    "salient_small_plain": SmallPreset(steering=None),
    "d2conv3d_tiny": Preset(Encoder(blocks=(1, 1, 1, 1), planes=4), Steering(), width=16),
}
