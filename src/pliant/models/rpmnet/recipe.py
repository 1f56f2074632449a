"""How RPM-Net is trained: from pairs of neighbouring frames, by how well one explains the colours of the
other.

The supplement says only that the reference image is warped and compared by "color information"; the rest is
our design (README.md gives the reasons). No mask is read anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pliant.losses import photometric
from pliant.losses.photometric import ColourLoss
from pliant.models.rpmnet import colour
from pliant.models.rpmnet.network import RPMNet, reduce
from pliant.models.rpmnet.presets import Preset

__all__ = ["Recipe", "Terms", "hide_channels", "photometric_terms", "random_light"]

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
    hide_one: float = 0.5  # probability of hiding one of the colour channels from the network
    hide_both: float = 0.25
    light: float = 0.2  # largest change of brightness and of contrast, drawn for each frame
    occlusion_from: float = 0.2  # share of the training after which inconsistent positions are left out


def hide_channels(count: int, terms: Terms, random: torch.Generator) -> Tensor:
    """Which channels each of ``count`` pairs may see: [count, 3], 1 or 0; the first always, both frames
    alike.

    In Lab the first is lightness, so that hiding the others leaves a grey picture.
    """
    draw = torch.rand(count, generator=random)
    which = torch.randint(1, 3, (count,), generator=random)
    seen = torch.ones(count, 3)
    one = draw < terms.hide_one
    seen[one, which[one]] = 0
    seen[(draw >= terms.hide_one) & (draw < terms.hide_one + terms.hide_both), 1:] = 0
    return seen


def random_light(rgb: Tensor, amount: float, random: torch.Generator) -> Tensor:
    """Brightness and contrast of each image [N, 3, H, W], 0..1, changed by up to ``amount``; clipped to
    0..1.
    """
    brightness, contrast = (
        (torch.rand(2, len(rgb), 1, 1, 1, generator=random) * 2 - 1).mul(amount).to(rgb.device)
    )
    mean = rgb.mean((1, 2, 3), keepdim=True)
    return ((rgb - mean) * (1 + contrast) + mean + brightness * mean).clamp(0, 1)


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
    warped = photometric.warp(reference[:, lightness], there)
    structure = photometric.structure_loss(target[:, lightness], warped)
    return {
        "colour": colours / level_sum,
        "structure": photometric.masked_mean(structure, visible),
        "smoothness": photometric.edge_aware_smoothness(there, target[:, lightness]),
        "cycle": photometric.masked_mean(photometric.cycle_error(there, back), visible),
    }


@dataclass(frozen=True)
class Recipe:
    """Self-supervised training on unlabelled clips. The defaults suit a small machine: two cores, some
    hours.
    """

    preset: Preset = field(default_factory=Preset)
    terms: Terms = field(default_factory=Terms)

    def build(self) -> RPMNet:
        """The network with random weights."""
        return RPMNet(self.preset)

    def parameter_groups(self, network: nn.Module) -> list[dict]:
        """Weight decay 1e-4 on weights, none on biases and batch norm."""
        decayed = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        return [{"params": decayed, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]

    def loss(self, network: nn.Module, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """``loss`` and its terms, averaged over both directions of time.

        batch: target, reference, uint8 [N, 3, H, W]; index [N], from which hidden channels and light are
        drawn, so that a batch gives the same loss again. progress: 0..1 of the training.
        """
        random = torch.Generator().manual_seed(int(batch["index"].sum()))
        rgb = [batch[name].float() / 255 for name in ("target", "reference")]
        seen = hide_channels(len(rgb[0]), self.terms, random).to(rgb[0].device)
        inputs = []
        for image in rgb:
            colours = colour.from_rgb(random_light(image, self.terms.light, random), self.preset.colour)
            # Kept channels are scaled up as dropout does, so that their sum stays what it will be in use.
            inputs.append(colours * (seen * 3 / seen.sum(1, keepdim=True))[:, :, None, None])
        there, back = network(*inputs)
        target, reference = (reduce(colour.from_rgb(image, self.preset.colour)) for image in rgb)
        weights = 1 - (1 - self.terms.kept_channels) * seen
        first = photometric_terms(target, reference, there, back, weights, self.terms, progress)
        second = photometric_terms(reference, target, back, there, weights, self.terms, progress)
        terms = {name: (first[name] + second[name]) / 2 for name in first}
        total = terms["colour"] + sum(
            getattr(self.terms, name) * terms[name] for name in ("structure", "smoothness", "cycle")
        )
        motion = there.detach().square().sum(1).sqrt().mean()
        return {"loss": total} | {name: value.detach() for name, value in terms.items()} | {"motion": motion}


recipe = Recipe()
