"""What a network promises, by task: all that the rest of the house knows of it.

Axes: N batch, K objects, T frames, H and W rows and columns. Images are normalised RGB (ImageNet mean and
standard deviation), padded to multiples of ``stride``; resizing, padding, ids, dtype and device are the
business of ``pliant.inference``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["FramewiseSalientNetwork", "SalientNetwork", "TrackNetwork", "TrackState"]


@runtime_checkable
class TrackState(Protocol):
    """Everything that changes while one stream is tracked; a slotted dataclass that can be copied and
    moved.
    """

    def nbytes(self) -> int:
        """Bytes of all tensors held."""


@runtime_checkable
class TrackNetwork(Protocol):
    """Follows objects whose masks are given. One stream at a time; several streams share one network.

    Objects are numbered 1..K in order of appearance; row 0 of probabilities is the background.
    """

    stride: int  # image sides are multiples of this

    def start(self, image: Tensor, masks: Tensor) -> TrackState:
        """State after the first annotated frame. image [1, 3, H, W]; masks [K, H, W] in [0, 1]."""

    def step(self, state: TrackState, image: Tensor, *, memory_frame: bool = False) -> Tensor:
        """Probabilities [K + 1, H, W], float32, sum 1 over rows, of the next frame.

        ``memory_frame``: it will be given to ``memorize``, so networks that skip work compute it in full.
        """

    def memorize(self, state: TrackState, image: Tensor, probabilities: Tensor, *, permanent: bool = False) -> None:
        """Add a frame to the memory. probabilities [K' + 1, H, W] with K' >= K: further objects join at the end.

        ``permanent`` marks an annotated frame, which the bounded memory never drops. ``image`` is the frame
        that was last given to ``start`` or ``step``, so that its features can be reused, or any other.
        """

    def forget(self, state: TrackState, index: int) -> None:
        """Remove object ``index`` (0-based among the K) from the state; later objects move up."""


@runtime_checkable
class SalientNetwork(Protocol):
    """Finds salient objects, nothing given.

    Pixels are RGB in [0, 1] minus ``pixel_mean`` over ``pixel_std``, padded with what black becomes.
    """

    stride: int  # image sides are multiples of this
    clip_length: int  # frames a clip it is trained for; any number runs
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]

    def forward(self, clip: Tensor) -> Tensor:
        """Logits [N, 1, T, H, W] of a clip [N, 3, T, H, W]."""


@runtime_checkable
class FramewiseSalientNetwork(SalientNetwork, Protocol):
    """A salient network whose ``forward`` is ``decode`` after ``encode``: frames that clips share are
    encoded once.
    """

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of frames [N, 3, H, W], each [N, C, h, w]."""

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Logits [N, 1, T, H, W] of the features of clips, each [N, T, C, h, w]."""
