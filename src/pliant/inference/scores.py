"""How well a tracking network follows annotated clips: the mean overlap, for a quick look while training.

Official numbers come from ``pliant evaluate``.
"""

from __future__ import annotations

import copy

import numpy as np
from torch import nn

from pliant.datasets import Clip
from pliant.inference.datasets import first_masks
from pliant.inference.frames import prepare
from pliant.inference.tracker import Tracker
from pliant.metrics.regions import region_similarity

__all__ = ["mean_overlap"]


def mean_overlap(network: nn.Module, clips: list[Clip], precision: str = "auto", size: int = 480) -> float:
    """Mean over clips, objects and annotated frames after an object's first of J, in [0, 1].

    ``network`` is left as it is. Raises ``ValueError`` where no clip has a second annotated frame.
    """
    network = prepare(copy.deepcopy(network), precision)
    scores: list[float] = []
    for clip in clips:
        tracker = Tracker(network, size=size)
        given = first_masks(clip)
        since: dict[int, int] = {}
        for index in range(len(clip)):
            image, truth = clip.frame(index), clip.labels(index)
            if index in given:
                labels = tracker.add_objects(image, given[index])
                since.update({identity: index for identity in tracker.objects if identity not in since})
            elif tracker.objects:
                labels = tracker.step(image)
            if truth is None:
                continue
            scores += [
                float(region_similarity(labels == identity, truth == identity))
                for identity, first in since.items()
                if first < index
            ]
    if not scores:
        raise ValueError("no clip has an annotated frame after its first: there is nothing to measure.")
    return float(np.mean(scores))
