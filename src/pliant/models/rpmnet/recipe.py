"""How RPM-Net is trained: from pairs of neighbouring frames, by how well one explains the colours of the
other.

The supplement says only that the reference image is warped and compared by "color information"; the rest is
our design (README.md gives the reasons). No mask is read anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.datasets.pictures import PictureStore, pack_pictures
from pliant.datasets.synthetic import SyntheticClips
from pliant.datasets.unlabelled import Footage, FramePairs
from pliant.losses import photometric
from pliant.losses.photometric import ColourLoss
from pliant.models.rpmnet import colour
from pliant.models.rpmnet.network import RPMNet, reduce
from pliant.models.rpmnet.presets import Preset
from pliant.ops import warp
from pliant.weights import read_weights

if TYPE_CHECKING:
    from pliant.datasets.sources import Sources

__all__ = ["Recipe", "Terms", "change_light", "from_sources", "hide_channels", "photometric_terms"]

_PLACES = 96  # of each target that are copied by similarity
_SOUGHT = 256  # of each view that are to be found again; they cost little beside the embedding
_HUBER = 0.05  # as the colour loss has it
_LEVELS = (1.0, 0.5, 0.25)  # weights of the loss at H/4, H/8, H/16: a bilinear sample sees one cell only


@dataclass(frozen=True)
class Terms:
    """What the loss is made of. colour: how colours are compared; the numbers are weights or
    probabilities.
    """

    colour: ColourLoss = "huber"
    kept_channels: float = 0.5  # what a channel counts that the network could see; a hidden one counts 1
    structure: float = 0.25
    smoothness: float = 0.05
    cycle: float = 0.0
    similarity: float = 1.0
    again: float = 1.0
    hide_one: float = 0.5  # probability of hiding one of the colour channels from the network
    hide_both: float = 0.25
    light: float = 0.2  # largest change of brightness and of contrast, drawn for each frame
    occlusion_from: float = 0.2  # share of the training after which inconsistent positions are left out


def hide_channels(terms: Terms, random: np.random.Generator) -> np.ndarray:
    """Which channels the network may see: float32 [3], 1 or 0; the first always.

    In Lab the first is lightness, so that hiding the others leaves a grey picture.
    """
    seen, draw = np.ones(3, np.float32), random.random()
    if draw < terms.hide_one:
        seen[random.integers(1, 3)] = 0
    elif draw < terms.hide_one + terms.hide_both:
        seen[1:] = 0
    return seen


def similarity_term(
    target: Tensor, reference: Tensor, embeddings: tuple[Tensor, Tensor], weights: Tensor, visible: Tensor
) -> Tensor:
    """How well colours around a position are copied from wherever the reference's embedding is alike, a scalar.

    target, reference: true scaled colours [N, 3, h, w]; embeddings: theirs, [N, 32, h, w]; weights: [N, 3], what each
    channel counts; visible: [N, 1, h, w], 1 where the reference shows it too. Compared with 3x3 colours of the
    neighbourhood, so that not every place of one colour is as good, at ``_PLACES`` random places of each target.
    """
    count = target.shape[-2] * target.shape[-1]
    places = torch.rand(len(target), count, device=target.device).argsort(1)[:, :_PLACES]
    copied = photometric.copied_by_similarity(*embeddings, photometric.neighbourhoods(reference), places)
    true = photometric.neighbourhoods(target).flatten(2)
    true = true.gather(2, places[:, None].expand(-1, true.shape[1], -1)).transpose(1, 2)
    error = F.huber_loss(copied, true, reduction="none", delta=_HUBER) / _HUBER  # [N, P, 27], a channel's 9 on end
    error = (error * weights.repeat_interleave(9, 1)[:, None]).unflatten(2, (3, 9)).mean(3).sum(2)
    return photometric.masked_mean(error, visible.flatten(1).gather(1, places))


def change_light(rgb: Tensor, light: Tensor) -> Tensor:
    """Images [N, 3, H, W], 0..1, with brightness and contrast changed by the shares in light [N, 2];
    clipped.
    """
    brightness, contrast = light[:, :, None, None, None].unbind(1)
    mean = rgb.mean((1, 2, 3), keepdim=True)
    return ((rgb - mean) * (1 + contrast) + mean * (1 + brightness)).clamp(0, 1)


def _show(colours: Tensor, seen: Tensor) -> Tensor:
    """Colours [N, 3, H, W] with unseen channels at 0 and the others scaled up, as dropout does, so that the first
    layer sums as much as in use."""
    return colours * (seen * 3 / seen.sum(1, keepdim=True))[:, :, None, None]


def photometric_terms(
    target: Tensor,
    reference: Tensor,
    there: Tensor,
    back: Tensor,
    weights: Tensor,
    terms: Terms,
    progress: float,
) -> dict[str, Tensor]:
    """The terms of one direction, unweighted, as scalars.

    target, reference: true scaled colours at the size of the offsets, [N, 3, h, w]. there: offsets from
    target to reference; back: the others; [N, 2, h, w]. weights: [N, 3], what each channel counts. progress:
    0..1.
    """
    visible = photometric.in_view(there)
    if progress >= terms.occlusion_from:
        visible = visible * photometric.consistency(there, back)
    colours, level_sum = target.new_zeros(()), 0.0
    a, b, offset, mask = target, reference, there, visible
    for level, weight in enumerate(_LEVELS):
        if level:
            if min(a.shape[-2:]) < 4:
                break
            a, b, mask = (F.avg_pool2d(x, 2) for x in (a, b, mask))
            offset = F.avg_pool2d(offset, 2) / 2
        values = photometric.colour_loss(a, b, offset, terms.colour, weights)
        colours = colours + weight * photometric.masked_mean(values, mask * photometric.in_view(offset))
        level_sum += weight
    lightness = slice(0, 1)
    warped = warp(reference[:, lightness], there)
    structure = photometric.structure_loss(target[:, lightness], warped)
    return {
        "colour": colours / level_sum,
        "structure": photometric.masked_mean(structure, visible),
        "smoothness": photometric.edge_aware_smoothness(there, target[:, lightness]),
        "cycle": photometric.masked_mean(photometric.cycle_error(there, back), visible),
    }


@dataclass(frozen=True)
class Recipe:
    """Self-supervised training on unlabelled clips (``pliant.training.loop.Recipe``).

    footage: the clips. pictures: a file of ``pack_pictures``, whose pictures are set in motion. synthetic: share of the
    pairs from the latter where both are given. views: share of the samples that are no pair but one frame twice, the
    second turned, scaled and moved by a known amount: there every place is to be found again. initial: weights of an
    RPM-Net to go on from. size: side of the crops in pixels. play: how far apart the crops of a pair may be, in pixels:
    with both at one place the embedding learns where in the crop it is, which padding tells, instead of what is there.
    max_gap: see ``FramePairs``.
    """

    footage: Footage | None
    pictures: Path | None = None
    synthetic: float = 0.3
    views: float = 0.5
    preset: Preset = field(default_factory=Preset)
    terms: Terms = field(default_factory=Terms)
    initial: Path | None = None
    size: int = 256
    play: int = 64
    max_gap: int = 6
    seed: int = 0
    name: str = "rpmnet"

    def build(self) -> RPMNet:
        """The network with its initial weights, random unless ``initial`` is given."""
        network = RPMNet(self.preset)
        if self.initial is not None:
            read_weights(network, self.initial, family="rpmnet", name=self.name)
        return network

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Weight decay on weights, none on biases and batch norm."""
        parameters = list(network.parameters())
        return [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 1e-4},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def sample(self, step: int, index: int, progress: float) -> dict[str, np.ndarray]:
        """One pair: target, reference, uint8 [3, size, size]; shift [2], how many cells later the target's crop begins;
        affine [2, 3], where places of the target lie in the reference (``found_again``), and known, whether that is so;
        seen [3], which channels the network may see; light [2, 2], changes of brightness and contrast of target and
        reference.
        """
        random = np.random.default_rng((self.seed, step, index))
        synthetic = random.random() < (self.synthetic if self.footage is not None else 1.0)
        if self.pictures is not None and synthetic:
            pair = self._set_in_motion(random, progress)
        else:
            pair = FramePairs(self.footage, self.size + self.play, self.max_gap).draw(random, progress)
        known = random.random() < self.views
        if known:
            target, reference, affine = self._twice(pair[0], random)
            centre = np.full(2, (self.size / 4 - 1) / 2)
            shift = affine[:, :2] @ centre + affine[:, 2] - centre
        else:
            places = 4 * random.integers(0, self.play // 4 + 1, (2, 2))
            target, reference = (
                image[top : top + self.size, left : left + self.size] for image, (top, left) in zip(pair, places)
            )
            shift = (places[0] - places[1]) / 4
            affine = np.zeros((2, 3))
        seen = hide_channels(self.terms, random)
        light = random.uniform(-self.terms.light, self.terms.light, (2, 2)).astype(np.float32)
        return {
            "target": np.ascontiguousarray(target.transpose(2, 0, 1)),
            "reference": np.ascontiguousarray(reference.transpose(2, 0, 1)),
            "shift": shift.astype(np.float32),
            "affine": affine.astype(np.float32),
            "known": np.bool_(known),
            "seen": seen,
            "light": light,
        }

    def _twice(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Two views of an image and the affine map [2, 3] from cells of the first to cells of the second."""
        room, half = self.play / 2, (self.size - 1) / 2
        middle = np.array(image.shape[:2]) / 2 - 0.5
        views, inverses = [], []
        for spread in (0.0, 1.0):
            angle = random.normal(0, 0.25 * spread)
            scale = np.exp(random.normal(0, 0.2 * spread))
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
            matrix = np.column_stack([turn, middle + random.uniform(-room, room, 2) - turn @ [half, half]])
            inverses.append(np.vstack([matrix, [0, 0, 1]]))  # (row, column) of a view to that of the image
            swapped = matrix[::-1][:, [1, 0, 2]]  # OpenCV has columns first
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            view = cv2.warpAffine(image, swapped, (self.size,) * 2, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
            views.append(view)
        # A cell's centre lies at 4 c + 1.5 in pixels.
        cells = np.array([[4, 0, 1.5], [0, 4, 1.5], [0, 0, 1]])
        affine = np.linalg.inv(cells) @ np.linalg.inv(inverses[1]) @ inverses[0] @ cells
        return *views, affine[:2]

    def _set_in_motion(self, random: np.random.Generator, progress: float) -> tuple[np.ndarray, np.ndarray]:
        """Two frames of a synthetic clip; its masks are not looked at. Slow in the first third."""
        speed = 0.4 if progress < 1 / 3 else 0.8
        clips = SyntheticClips(self._store, self.seed, (self.size + self.play,) * 2, 2, speed)
        frames = clips[int(random.integers(2**31))].frames
        return frames[1], frames[0]

    @cached_property
    def _store(self) -> PictureStore:
        return PictureStore(self.pictures)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """``loss`` and its terms, averaged over both directions of time, and the mean ``motion`` in cells.

        batch: stacked samples. progress: 0..1 of the training.
        """
        space, truth = self.preset.colour, []
        plain = torch.autocast(batch["seen"].device.type, enabled=False)  # colours and offsets stay in float32
        inputs = []
        with plain:
            for number, name in enumerate(("target", "reference")):
                rgb = batch[name].float() / 255
                colours = colour.from_rgb(change_light(rgb, batch["light"][:, number]), space)
                inputs.append(_show(colours, batch["seen"]))
                truth.append(reduce(colour.from_rgb(rgb, space)))
        there, back, *embeddings = network(*inputs, shift=batch["shift"], with_embeddings=True)
        weights = 1 - (1 - self.terms.kept_channels) * batch["seen"]
        with plain:
            first = photometric_terms(*truth, there, back, weights, self.terms, progress)
            second = photometric_terms(*reversed(truth), back, there, weights, self.terms, progress)
            seen = [photometric.in_view(offset.detach()) for offset in (there, back)]
            first["similarity"] = similarity_term(*truth, embeddings, weights, seen[0])
            second["similarity"] = similarity_term(*reversed(truth), embeddings[::-1], weights, seen[1])
            again = self._found_again(*embeddings, batch["affine"], batch["known"])
        terms = {name: (first[name] + second[name]) / 2 for name in first} | {"again": again}
        total = terms["colour"]
        for name in ("structure", "smoothness", "cycle", "similarity", "again"):
            total = total + getattr(self.terms, name) * terms[name]
        motion = (there.detach() - batch["shift"][:, :, None, None]).square().sum(1).sqrt().mean()
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}, "motion": motion}

    @staticmethod
    def _found_again(target: Tensor, reference: Tensor, affine: Tensor, known: Tensor) -> Tensor:
        """``found_again`` of random places of the samples whose affine map is known, the mean of both directions."""
        if not known.any():
            return target.new_zeros((), dtype=torch.float32)
        target, reference, there = target[known], reference[known], affine[known].float()
        turned = torch.linalg.inv(there[:, :, :2])
        back = torch.cat((turned, -turned @ there[:, :, 2:]), 2)
        count = target.shape[-2] * target.shape[-1]
        terms = []
        for a, b, way in ((target, reference, there), (reference, target, back)):
            places = torch.rand(len(a), count, device=a.device).argsort(1)[:, :_SOUGHT]
            terms.append(photometric.found_again(a, b, way, places))
        return (terms[0] + terms[1]) / 2


def from_sources(sources: Sources) -> Recipe:
    """The recipe for unlabelled clips, and pictures to set in motion; both are decoded once into the cache.

    Raises InputError where neither is given or cannot be used.
    """
    sources.need("videos", "photos")
    recipe = Recipe(None, initial=sources.initial, seed=sources.seed)
    footage, pictures = None, None
    if sources.videos:
        footage = Footage(sources.videos, (recipe.size + recipe.play) * 26 // 25, sources.cache / "frames")
    if sources.photos:
        pictures = pack_pictures(
            sources.cache / "pictures.bin",
            photos=list(sources.photos),
            cutouts=list(sources.cutouts),
            films=list(sources.films),
        )
    return replace(recipe, footage=footage, pictures=pictures)
