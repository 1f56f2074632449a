"""How clip networks are trained: ``salient_small`` on synthetic clips, all of them on clips with masks.

``FolderRecipe`` with its defaults is the D²Conv3D paper's on DAVIS: Lovász hinge, Adam, 1e-5 and a tenth of
it for the second half, no augmentation, 480 x 854 padded with black.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.datasets import davis
from pliant.datasets.clip import Clip
from pliant.datasets.clip_samplers import consecutive, following, window
from pliant.datasets.natural_cutouts import SaliencyNetwork
from pliant.datasets.pictures import PictureStore, pack_pictures
from pliant.datasets.salient_pictures import SalientPictures, write_saliency
from pliant.datasets.sources import Sources
from pliant.datasets.synthetic import SyntheticClips
from pliant.errors import DatasetError, InputError
from pliant.losses.lovasz import lovasz_hinge
from pliant.models import d2conv3d
from pliant.models.backbones.caffe2_csn import read_caffe2_csn
from pliant.models.backbones.csn import Encoder3d
from pliant.models.backbones.u2net import read_u2net
from pliant.models.d2conv3d.small import SmallSegmenter
from pliant.nn.steered_conv import SteeredConv
from pliant.weights import embedded, fit_weights, read_state, read_weights

__all__ = ["FolderRecipe", "Stage", "SyntheticRecipe", "from_folder", "plain_from_sources", "small_from_sources"]


@dataclass(frozen=True)
class Stage:
    """From which share of the schedule on: frames a clip, short side in pixels, speed of the motion."""

    start: float
    length: int
    side: int
    speed: float


def _build(name: str, initial: Path | None, options: dict[str, Any] | None = None) -> nn.Module:
    """The network. initial: for salient_small U2-NetP's ONNX file or weights of its plain twin, for the others ir-CSN
    .pkl, or weights of any layout.
    """
    network = d2conv3d.build(name, **(options or {}))
    if initial is None:
        return network
    if isinstance(network, SmallSegmenter):
        _read_small(network, initial, name)
    elif initial.suffix == ".pkl":
        network.encoder.load_state_dict(read_caffe2_csn(initial, network.preset.encoder.blocks))
    else:
        read_weights(network, initial, family="d2conv3d", name=name)
    return network


def _read_small(network: SmallSegmenter, initial: Path, name: str) -> None:
    if initial.suffix == ".onnx":
        state, wanted = read_u2net(initial), network.encoder.state_dict()
        network.encoder.load_state_dict({key: state[key] for key in wanted})
        return
    state = read_state(initial)
    for place, layer in network.named_modules():  # of the plain twin: a steered layer begins as its convolution
        if isinstance(layer, SteeredConv) and f"{place}.weight" in state:
            begin = {f"{place}.{key}": value for key, value in layer.state_dict().items() if "deform_params" in key}
            factor = 2 if layer.modulation == "sigmoid" else 1  # sigmoid(0) = 1/2
            weight, bias = state.pop(f"{place}.weight"), state.pop(f"{place}.bias")
            state |= {f"{place}.deform_conv.weight": factor * weight, f"{place}.deform_conv.bias": bias, **begin}
    fit_weights(network, state, initial, family="d2conv3d", name=name)


def _normalised(frames: np.ndarray, network: Any) -> np.ndarray:
    """uint8 [T, H, W, 3] -> float32 [3, T, H, W] the way ``network`` wants it."""
    mean, deviation = (np.array(v, np.float32) * 255 for v in (network.pixel_mean, network.pixel_std))
    return np.ascontiguousarray(((frames - mean) / deviation).transpose(3, 0, 1, 2).astype(np.float32))


class HalfPrecision(nn.Module):
    """A frozen ``U2NetP`` in bfloat16 outside of autocast, which keeps oneDNN's fused primitives from running.

    One frame after the other: what one needs stays in the caches, which saves a third of the time.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.bfloat16().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        with torch.autocast(images.device.type, enabled=False):
            logits, maps = zip(*(self.network(image[None]) for image in images.bfloat16()))
        return torch.cat(logits), tuple(torch.cat(scale) for scale in zip(*maps))


def _logits(network: nn.Module, clip: Tensor, copies: dict[str, nn.Module]) -> Tensor:
    """Logits in float32. ``salient_small``'s frozen encoder takes most of a step: in mixed precision on a CPU a copy of
    it runs in its place, which ``copies`` keeps.
    """
    own = getattr(network, "module", network)
    if not isinstance(own, SmallSegmenter) or not torch.is_autocast_enabled("cpu"):
        return network(clip).float()
    if "encoder" not in copies:
        copies["encoder"] = HalfPrecision(copy.deepcopy(own.encoder)).eval()
    return network(clip, copies["encoder"]).float()


@dataclass(frozen=True)
class SyntheticRecipe:
    """Synthetic clips of packed ``pictures``; salient is what moves against the camera.

    Where nothing does, it is what was placed there; and a share of ``looks`` of the clips shows pictures as they
    are, of which ``saliency`` (a file of ``write_saliency``) tells what its ``teacher`` sees in them. The loss is the
    Lovász hinge plus cross-entropy. still: share of the things that stay with the background, so that looks alone do
    not tell. shadows, restless: as of ``SyntheticClips``. options: fields of the preset that are other than there, for
    example ``{"steering": Steering("deform", "tyx")}``.
    """

    pictures: Path
    teacher: Path | None = None
    saliency: Path | None = None
    looks: float = 0.3
    initial: Path | None = None
    seed: int = 0
    name: str = "salient_small"
    stages: tuple[Stage, ...] = (
        Stage(0.0, 4, 240, 1.0),
        Stage(0.8, 6, 240, 0.8),
    )
    max_objects: int = 3
    still: float = 0.5
    shadows: float = 0.4
    restless: float = 0.3
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        network = _build(self.name, self.initial, self.options)
        network.encoder.requires_grad_(False)
        return network

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        return [{"params": [p for p in network.parameters() if p.requires_grad]}]

    def sample(self, step: int, index: int, progress: float) -> dict[str, Any]:
        stage, number = self.stage(progress), step * 4096 + index
        size = self._shape(stage.side, number)
        if self.saliency is not None and np.random.default_rng([self.seed, number, 2]).random() < self.looks:
            pictures = SalientPictures(self._store, self.saliency, self.seed, size, stage.length, stage.speed)
            frames, target = pictures[number]
        else:
            clips = SyntheticClips(
                self._store, self.seed, size, stage.length, stage.speed, self.max_objects, self.still,
                self.shadows, self.restless,
            )
            clip = clips[number]
            frames = clip.frames
            target = (clip.moving if any(clip.own_motion) else clip.placed).astype(np.float32)
        sides = (SmallSegmenter.size, SmallSegmenter.size)
        frames = np.stack([cv2.resize(frame, sides, interpolation=cv2.INTER_AREA) for frame in frames])
        target = np.stack([cv2.resize(mask, sides, interpolation=cv2.INTER_AREA) for mask in target])
        return {"clip": _normalised(frames, SmallSegmenter), "target": target[None]}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        logits, target = _logits(network, batch["clip"], self._copies), batch["target"].float()
        hinge = lovasz_hinge(logits, target > 0.5)
        entropy = F.binary_cross_entropy_with_logits(logits, target)
        return {"loss": hinge + entropy, "lovasz": hinge, "cross_entropy": entropy}

    def stage(self, progress: float) -> Stage:
        """The stage of a share of the schedule."""
        return [stage for stage in self.stages if stage.start <= progress][-1]

    def _shape(self, side: int, number: int) -> tuple[int, int]:
        """Rows and columns of a clip before it is stretched: seven in ten are wide, the others square or upright."""
        long = round(side * 16 / 9)
        shapes = [(side, long), (side, side), (long, side)]
        return shapes[np.random.default_rng([self.seed, number, 3]).choice(3, p=(0.7, 0.15, 0.15))]

    @cached_property
    def _store(self) -> PictureStore:
        return PictureStore(self.pictures)

    @cached_property
    def _copies(self) -> dict[str, nn.Module]:
        return {}


@dataclass(frozen=True)
class FolderRecipe:
    """Clips with masks; the foreground is whatever is not background.

    clips: the videos. sampler: "paper" (frames on end), "repository" (d2conv3d's code) or "threedc_seg"
    (3DC-Seg's); fixed_draws: the same draws in every epoch, as in d2conv3d's code, instead of new ones.
    batch_size must be that of the run: it tells which epoch a step is in; every frame of every video is
    once the centre (start) of a clip. size: rows and columns to which frames are brought, before sides are
    padded to multiples of ``stride`` with black. flip: mirror half of the clips (the paper: no).
    """

    clips: tuple[Clip, ...]
    initial: Path | None = None
    seed: int = 0
    name: str = "d2conv3d"
    sampler: Literal["paper", "repository", "threedc_seg"] = "paper"
    fixed_draws: bool = False
    batch_size: int = 4
    length: int = 8
    size: tuple[int, int] = (480, 854)
    stride: int = 32
    flip: bool = False

    def build(self) -> nn.Module:
        network = _build(self.name, self.initial)
        if isinstance(network, SmallSegmenter):
            network.encoder.requires_grad_(False)
        elif isinstance(network.encoder, Encoder3d):
            network.encoder.checkpoint_blocks = True
        return network

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        return [{"params": [p for p in network.parameters() if p.requires_grad], "weight_decay": 0.0}]

    def schedule(self, progress: float) -> float:
        """Factor on the learning rate: a tenth after half of the epochs."""
        return 1.0 if progress < 0.5 else 0.1

    def sample(self, step: int, index: int, progress: float) -> dict[str, Any]:
        position = step * self.batch_size + index
        epoch, place = divmod(position, len(self._frames))
        number = int(np.random.default_rng([self.seed, epoch]).permutation(len(self._frames))[place])
        rng = np.random.default_rng([self.seed, 0 if self.fixed_draws else epoch, number, 1])
        clip, frame = self._frames[number]
        chosen = self._chosen(len(clip), frame, rng)
        images = np.stack([self._image(clip.frame(i)) for i in chosen])
        masks = np.stack([self._mask(clip.labels(i)) for i in chosen])
        if self.flip and rng.random() < 0.5:
            images, masks = images[:, :, ::-1], masks[:, :, ::-1]
        constants = self._constants
        return {"clip": _normalised(images, constants), "target": np.ascontiguousarray(masks)[None]}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        return {"loss": lovasz_hinge(_logits(network, batch["clip"], self._copies), batch["target"].float())}

    def _chosen(self, count: int, frame: int, rng: np.random.Generator) -> list[int]:
        if self.sampler == "paper":
            return consecutive(count, self.length, rng)
        if self.sampler == "repository":
            return window(count, frame, self.length, rng)
        return following(count, frame, self.length, rng)

    @cached_property
    def _frames(self) -> list[tuple[Clip, int]]:
        """Every frame of every video."""
        return [(clip, frame) for clip in self.clips for frame in range(len(clip))]

    @cached_property
    def _copies(self) -> dict[str, nn.Module]:
        return {}

    @cached_property
    def _constants(self) -> Any:
        preset = d2conv3d.PRESETS[self.name]
        if isinstance(preset, d2conv3d.SmallPreset):
            return SmallSegmenter
        return preset

    def _image(self, image: np.ndarray) -> np.ndarray:
        rows, columns = self.size
        if image.shape[:2] != self.size:
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
        return cv2.copyMakeBorder(image, *self._borders, cv2.BORDER_CONSTANT, value=(0, 0, 0))

    def _mask(self, labels: np.ndarray) -> np.ndarray:
        rows, columns = self.size
        mask = (labels != 0).astype(np.uint8)
        if mask.shape != self.size:
            mask = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
        return cv2.copyMakeBorder(mask, *self._borders, cv2.BORDER_CONSTANT, value=0).astype(bool)

    @property
    def _borders(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right."""
        down, across = (-side % self.stride for side in self.size)
        return down // 2, down - down // 2, across // 2, across - across // 2


def small_from_sources(sources: Sources, name: str = "salient_small") -> SyntheticRecipe | FolderRecipe:
    """``salient_small`` on one's own clips where there are some, else on synthetic ones, with U2-NetP's ONNX file as
    the teacher of looks where it is given. Raises ``InputError``.

    It goes on from the embedded weights if from nothing else; its plain twin must be told where to begin, as the
    encoder keeps its weights and random ones see nothing.
    """
    if sources.clips is not None:
        return FolderRecipe(
            _annotated(sources.clips), _beginning(sources, name), sources.seed, name,
            batch_size=8, size=(SmallSegmenter.size, SmallSegmenter.size), flip=True,
        )  # fmt: skip
    sources.need("photos", "clips")
    initial = _beginning(sources, name)
    pictures = pack_pictures(
        sources.cache / "pictures.bin",
        photos=list(sources.photos),
        cutouts=list(sources.cutouts),
        films=list(sources.films),
    )
    saliency = None
    if sources.teacher is not None:
        network = SaliencyNetwork(sources.teacher)
        saliency = write_saliency(PictureStore(pictures), network, sources.cache / "saliency.npz")
    return SyntheticRecipe(pictures, sources.teacher, saliency, initial=initial, seed=sources.seed, name=name)


def _beginning(sources: Sources, name: str) -> Path:
    if sources.initial is not None:
        return sources.initial
    if name == "salient_small":
        return embedded(name, "salient_small.safetensors")
    raise InputError(f"{name} needs --from: U2-NetP's ONNX file, which `pliant fetch-training-data` brings.")


def plain_from_sources(sources: Sources) -> SyntheticRecipe | FolderRecipe:
    """``salient_small_plain``, from which ``salient_small`` goes on, the same way."""
    return small_from_sources(sources, "salient_small_plain")


def from_folder(sources: Sources) -> FolderRecipe:
    """The paper's recipe for ``d2conv3d`` on a DAVIS root. Raises ``InputError``."""
    sources.need("clips")
    return FolderRecipe(_annotated(sources.clips), sources.initial, sources.seed)


def _annotated(root: Path) -> tuple[Clip, ...]:
    """The clips below ``root`` whose every frame has a mask: the training split of DAVIS, or all folders
    there are.
    """
    if (root / "ImageSets").is_dir():
        found = davis.clips(root, "train", unsupervised=(root / "Annotations_unsupervised").is_dir())
    else:
        names = sorted(path.name for path in (root / "JPEGImages").glob("*") if path.is_dir())
        found = [_pair(root, name) for name in names]
    whole = tuple(clip for clip in found if len(clip.annotated) == len(clip))
    if not whole:
        raise DatasetError(
            f"{root} has no video with a mask for every frame; expected JPEGImages/<name>/*.jpg and "
            "Annotations/<name>/*.png below it, or DAVIS with its ImageSets."
        )
    return whole


def _pair(root: Path, name: str) -> Clip:
    """Images and masks of one folder's name; a mask belongs to the image of its own name."""
    images = sorted(p for p in (root / "JPEGImages" / name).iterdir() if p.suffix.lower() in (".jpg", ".png"))
    masks = [root / "Annotations" / name / f"{image.stem}.png" for image in images]
    return Clip(name, tuple(images), tuple(mask if mask.is_file() else None for mask in masks), (1,))
