"""How RPM-Net carries masks from frame to frame: soft maps, all objects warped by the same offsets, constant
memory.

The supplement says that the mask of t-1 is warped by the offsets between the embeddings of t and t-1. The
rest is ours: the background takes what comes from outside the image, so that the maps sum to 1 exactly; masks
are warped at full size (at H/4, as the table has it, with ``resolution="table"``); annotated frames can serve
as anchors against drift, or with recent ones as ``references``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from pliant import ops
from pliant.models.rpmnet.edges import enlarge_along_edges
from pliant.models.rpmnet.likeness import find_basis, likeness
from pliant.models.rpmnet.online_update import fit_matching
from pliant.models.rpmnet.references import Reference, around, blend, coarse_offset, refresh

if TYPE_CHECKING:
    from pliant.models.rpmnet.network import RPMNet

__all__ = ["Anchor", "PropagationState", "enlarge_offsets", "find_motion", "forget", "memorize", "start", "step"]


_SEARCHED = 24  # cells around the objects in which motion is looked for


@dataclass(slots=True)
class Anchor:
    """An annotated frame that later frames are matched with directly."""

    embedding: Tensor  # [1, 32, h, w]
    maps: Tensor  # [K + 1, ...] as carried, K the objects known then


@dataclass(slots=True)
class PropagationState:
    """One stream: the last frame and its maps, the annotated frames if they are anchors, a fitted matching
    module.
    """

    image: Tensor  # [1, 3, H, W], the frame that `embedding` belongs to
    embedding: Tensor  # [1, 32, h, w]
    maps: Tensor  # [K + 1, H, W], or [K + 1, h, w] with resolution "table" or references; float32, sum 1
    shown: Tensor  # [K + 1, H, W], what was answered
    anchors: list[Anchor] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)  # the newest last, which is of `image`
    likeness: Tensor | None = None  # [1, C, h, w], in what `image` is compared; with references
    basis: Tensor | None = None  # of `likeness`, found in the first frame
    fitted: dict[str, Tensor] | None = None  # parameters of the matching module, by online update

    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        tensors = [self.image, self.embedding, self.maps, self.shown]
        tensors += [tensor for anchor in self.anchors for tensor in (anchor.embedding, anchor.maps)]
        tensors += [part for each in self.references for part in (each.embedding, each.maps, each.offset)]
        tensors += [part for part in (self.likeness, self.basis) if part is not None]
        tensors += list((self.fitted or {}).values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def start(network: RPMNet, image: Tensor, masks: Tensor) -> PropagationState:
    """See ``RPMNet.start``."""
    _check_image(image)
    if masks.ndim != 3 or masks.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"masks {tuple(masks.shape)} for an image {tuple(image.shape)}: expected [K, H, W]")
    masks = masks.float().clamp(0, 1)
    total = masks.sum(0, keepdim=True)
    probabilities = torch.cat((1 - total.clamp_max(1), masks / total.clamp_min(1)))  # overlaps are shared out
    embedding, *stages = _embedded(network, image)
    state = PropagationState(image, embedding, probabilities, probabilities)
    if network.preset.references:
        with torch.autocast(image.device.type, enabled=False):
            if network.preset.likeness:
                state.basis = find_basis((embedding, *stages), network.preset.likeness)
            state.likeness = likeness((embedding, *stages), state.basis)
    memorize(network, state, image, probabilities, permanent=True)
    return state


def step(network: RPMNet, state: PropagationState, image: Tensor) -> Tensor:
    """See ``RPMNet.step``."""
    _check_image(image)
    if image.shape != state.image.shape:
        raise ValueError(f"image {tuple(image.shape)}: this stream started with {tuple(state.image.shape)}")
    embedding, *stages = _embedded(network, image)
    with torch.autocast(image.device.type, enabled=False):  # maps and offsets stay in float32
        if network.preset.references:
            state.likeness = likeness((embedding, *stages), state.basis)
            maps = _from_references(network, state, embedding)
        else:
            offset = network.match(embedding, state.embedding, state.fitted)
            maps = _warp_maps(state.maps, offset)
            for anchor in state.anchors:
                maps = _join_anchor(network, state, anchor, embedding, maps)
        if network.preset.sharpen:
            maps = maps.square()
            maps = maps / maps.sum(0)
    enlarge = enlarge_along_edges if network.preset.edges else _full_size
    state.image, state.embedding, state.maps, state.shown = image, embedding, maps, enlarge(maps, image)
    if network.preset.references:
        _refer(network, state, permanent=False)
    return state.shown


def memorize(
    network: RPMNet, state: PropagationState, image: Tensor, probabilities: Tensor, *, permanent: bool
) -> None:
    """See ``RPMNet.memorize``."""
    _check_image(image)
    if probabilities.ndim != 3 or probabilities.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"probabilities {tuple(probabilities.shape)} for an image {tuple(image.shape)}")
    if len(probabilities) < len(state.maps):
        raise ValueError(f"probabilities of {len(probabilities) - 1} objects: the state has {len(state.maps) - 1}")
    known = torch.equal(image, state.image)
    if known and not permanent and torch.equal(state.shown, probabilities):
        return  # its own answer: what is carried is that answer before it was enlarged
    if not known and network.preset.references:
        step(network, state, image)  # for the way from here to the references
    elif not known:
        state.image, state.embedding = image, network.embed(image)
    maps = probabilities.float()
    state.shown = maps
    if network.preset.resolution == "table" or network.preset.references:
        maps = F.adaptive_avg_pool2d(maps, state.embedding.shape[-2:])
    state.maps = maps
    if network.preset.references:
        state.references = state.references[:-1]  # of the same frame, before it was corrected
        _refer(network, state, permanent)
    if permanent and network.preset.anchor:
        state.anchors.append(Anchor(state.embedding, maps))
    if permanent and network.preset.online_update:
        state.fitted = fit_matching(network, image, probabilities, state.fitted)


def forget(state: PropagationState, index: int) -> None:
    """See ``RPMNet.forget``."""
    if not 0 <= index < len(state.maps) - 1:
        raise ValueError(f"object {index}: the state has {len(state.maps) - 1}")
    state.maps, state.shown = _without(state.maps, index), _without(state.shown, index)
    for kept in (*state.anchors, *state.references):
        if index < len(kept.maps) - 1:
            kept.maps = _without(kept.maps, index)


def enlarge_offsets(offset: Tensor, size: tuple[int, int]) -> Tensor:
    """Offsets of an h x w grid, [N, 2, h, w], for every pixel of an image of ``size`` (H, W), in its
    pixels.
    """
    scale = offset.new_tensor([side / small for side, small in zip(size, offset.shape[-2:])])
    large = F.interpolate(offset, size=tuple(size), mode="bilinear", align_corners=False)
    return large * scale.reshape(1, 2, 1, 1)


def _warp_maps(maps: Tensor, offset: Tensor) -> Tensor:
    """Layer 109 on all maps [K + 1, ...] at once; the background takes what lies outside the reference."""
    if maps.shape[-2:] != offset.shape[-2:]:
        offset = enlarge_offsets(offset, maps.shape[-2:])
    objects = ops.warp(maps[None, 1:], offset)[0]
    return torch.cat((1 - objects.sum(0, keepdim=True).clamp_max(1), objects))


def _join_anchor(network: RPMNet, state: PropagationState, anchor: Anchor, embedding: Tensor, maps: Tensor) -> Tensor:
    """Mix in the anchor's maps, at most by half, less where matching there and back does not return.

    Objects that came after the anchor keep their share: it knows nothing of them.
    """
    there = network.match(embedding, anchor.embedding, state.fitted)
    back = network.match(anchor.embedding, embedding, state.fitted)
    error = (there + ops.warp(back, there)).square().sum(1, keepdim=True).sqrt()
    covered = ops.warp(torch.ones_like(there[:, :1]), there)
    weight = 0.5 * torch.exp(-error) * (covered >= 0.99)
    if weight.shape[-2:] != maps.shape[-2:]:
        weight = F.interpolate(weight, size=tuple(maps.shape[-2:]), mode="bilinear", align_corners=False)
    known = len(anchor.maps)
    weight = weight[0] * (1 - maps[known:].sum(0, keepdim=True)).clamp(0, 1)
    anchored = _warp_maps(anchor.maps, there)
    return torch.cat(((1 - weight) * maps[:known] + weight * anchored, (1 - weight) * maps[known:]))


def _embedded(network: RPMNet, image: Tensor) -> tuple[Tensor, ...]:
    """The embedding, and the stages of it if frames are compared in them."""
    if network.preset.references and network.preset.likeness:
        return network.embed_stages(image)
    return (network.embed(image),)


def find_motion(
    network: RPMNet,
    embeddings: tuple[Tensor, Tensor],
    alike: tuple[Tensor, Tensor],
    fitted: dict[str, Tensor] | None = None,
) -> Tensor:
    """Offsets [1, 2, h, w] in cells: first by likeness, to about a cell, then what remains by the matching module.

    embeddings: of target and reference, [1, 32, h, w]; alike: their ``likeness``, [1, C, h, w].
    """
    near = coarse_offset(*alike)
    return near + network.match(embeddings[0], ops.warp(embeddings[1], near), fitted)


def _from_references(network: RPMNet, state: PropagationState, embedding: Tensor) -> Tensor:
    """Maps of the next frame from all references, around where the last frame's content went.

    Motion is looked for around the objects only.
    """
    embedding, before, query = embedding.float(), state.embedding.float(), state.likeness
    motion = embedding.new_zeros(1, 2, *embedding.shape[-2:])
    box = around(1 - state.maps[0], _SEARCHED)
    if box is not None:
        box = (slice(None), *box)
        key = state.references[-1].embedding
        motion[box] = find_motion(network, (embedding[box], before[box]), (query[box], key[box]), state.fitted)
    return blend(query, state.references, motion, network.preset.reach)


def _refer(network: RPMNet, state: PropagationState, permanent: bool) -> None:
    """The last frame, as the state has it, becomes a reference."""
    here = state.likeness.new_zeros(1, 2, *state.likeness.shape[-2:])
    reference = Reference(state.likeness, state.maps, here, permanent)
    state.references = refresh(state.references, reference, network.preset.references)


def _full_size(maps: Tensor, image: Tensor) -> Tensor:
    if maps.shape[-2:] == image.shape[-2:]:
        return maps
    return F.interpolate(maps[None], size=tuple(image.shape[-2:]), mode="bilinear", align_corners=False)[0]


def _without(maps: Tensor, index: int) -> Tensor:
    kept = torch.cat((maps[: index + 1], maps[index + 2 :]))
    kept[0] += maps[index + 1]
    return kept


def _check_image(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise ValueError(f"image {tuple(image.shape)}: expected [1, 3, H, W]")
