"""Cut-outs with natural outlines: what a free image-saliency network finds in photographs and film.

The generator of synthetic clips pastes them over other pictures. U2-NetP (1.1 M parameters, Apache-2.0) runs through
onnxruntime, which is needed here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from pliant.errors import MissingDependencyError

__all__ = ["SaliencyNetwork", "cut_out", "write_cutouts"]

_SIDE = 320
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class SaliencyNetwork:
    """U2-NetP in an ONNX file: image [H, W, 3] uint8 RGB -> map [320, 320] float32 in [0, 1], not stretched."""

    def __init__(self, file: str | Path, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            message = "cutting objects out of photographs needs `pip install onnxruntime`."
            raise MissingDependencyError(message) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        small = (small / max(float(small.max()), 1.0) - _MEAN) / _STANDARD_DEVIATION
        (fused, *_rest) = self._session.run(None, {self._input: small.transpose(2, 0, 1)[None]})
        return fused[0, 0]


def cut_out(image: np.ndarray, saliency: np.ndarray) -> np.ndarray | None:
    """RGBA uint8 crop of the one salient object of ``image``, or None where there is no clear one.

    A clear object: the map reaches 0.9, the largest component covers 2 to 50 % of the picture, holds 80 % of all that
    is salient, touches at most one border, and little of the map is undecided.
    """
    if saliency.max() < 0.9:
        return None
    undecided = float(((saliency > 0.2) & (saliency < 0.8)).mean())
    count, components, statistics, _ = cv2.connectedComponentsWithStats((saliency > 0.5).astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    x, y, width, height, area = statistics[largest]
    share = area / saliency.size
    borders = (x == 0) + (y == 0) + (x + width == saliency.shape[1]) + (y + height == saliency.shape[0])
    whole = (saliency > 0.5).mean()
    if not 0.02 <= share <= 0.5 or share < 0.8 * whole or borders > 1 or undecided > 0.5 * share:
        return None
    alpha = np.where(components == largest, saliency, 0).astype(np.float32)
    alpha = cv2.resize(alpha, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    alpha = np.clip((alpha - 0.3) / 0.4, 0, 1)
    rows, columns = np.flatnonzero(alpha.max(1) > 0.5), np.flatnonzero(alpha.max(0) > 0.5)
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return np.dstack([image[box], (alpha[box] * 255).astype(np.uint8)])


def write_cutouts(pictures: Iterable[tuple[str, np.ndarray]], network: SaliencyNetwork, folder: str | Path) -> int:
    """Write a PNG for every picture (name, RGB uint8) with a clear object; returns how many."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for name, picture in pictures:
        cutout = cut_out(picture, network(picture))
        if cutout is not None:
            cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(cutout, cv2.COLOR_RGBA2BGRA))
            written += 1
    return written
