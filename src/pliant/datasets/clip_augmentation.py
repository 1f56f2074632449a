"""STCN's augmentation of training clips: one crop, flip and colour for a clip, a small warp and jitter a frame."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["augment_clip", "sample_frames"]

MEAN_COLOUR = (124, 116, 104)


def sample_frames(length: int, max_skip: int, generator: np.random.Generator) -> list[int]:
    """Three frames of a video of ``length`` (at least 3), at most ``max_skip`` + 1 apart, forward or backward.

    As in STCN, positions are clipped at the video's end, where frames can repeat.
    """
    jump = min(length, max_skip)
    first = int(generator.integers(0, length - jump + 1))
    second = min(first + 1 + int(generator.integers(0, jump + 1)), length - jump, length - 1)
    third = min(second + 1 + int(generator.integers(0, jump + 1)), length - jump // 2, length - 1)
    frames = [first, second, third]
    return frames[::-1] if generator.random() < 0.5 else frames


def augment_clip(
    frames: list[np.ndarray], labels: list[np.ndarray], side: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, side, side, 3] float32 in 0..255 and labels [T, side, side] uint8 of a clip.

    frames: [H, W, 3] uint8 RGB; labels: [H, W] uint8. The clip: flip 0.5, crop of 0.36 to 1 of the area with aspect
    3/4 to 4/3, brightness, contrast and saturation, grey 0.05. Each frame: rotation of 15 and shear of 10 degrees at
    most, brightness and contrast by 1 %. Pictures bicubic, labels nearest.
    """
    rows, columns = labels[0].shape
    crop = _crop(rows, columns, side, generator)
    if generator.random() < 0.5:
        crop = np.array([[-1, 0, side - 1], [0, 1, 0], [0, 0, 1]], np.float64) @ crop
    tint = _colour(0.1, 0.03, 0.03, generator)
    grey = generator.random() < 0.05
    pictures, maps = [], []
    for frame, label in zip(frames, labels):
        warp = (_wobble(side, generator) @ crop)[:2]
        options = {"dsize": (side, side), "borderMode": cv2.BORDER_CONSTANT}
        picture = cv2.warpAffine(frame, warp, flags=cv2.INTER_CUBIC, borderValue=MEAN_COLOUR, **options)
        picture = _colour(0.01, 0.01, 0.01, generator)(tint(picture.astype(np.float32)))
        if grey:
            picture = np.repeat(picture @ np.float32([0.299, 0.587, 0.114])[:, None], 3, axis=2)
        pictures.append(picture)
        maps.append(cv2.warpAffine(label, warp, flags=cv2.INTER_NEAREST, borderValue=0, **options))
    return np.stack(pictures), np.stack(maps)


def _crop(rows: int, columns: int, side: int, generator: np.random.Generator) -> np.ndarray:
    """3 x 3 map of a random part of the picture onto side x side."""
    area = rows * columns * generator.uniform(0.36, 1.0)
    aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = min(columns, np.sqrt(area * aspect)), min(rows, np.sqrt(area / aspect))
    left, top = generator.uniform(0, columns - width), generator.uniform(0, rows - height)
    return np.diag([side / width, side / height, 1.0]) @ np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])


def _wobble(side: int, generator: np.random.Generator) -> np.ndarray:
    """A rotation and a shear about the middle."""
    angle, shear = np.deg2rad(generator.uniform(-15, 15)), np.tan(np.deg2rad(generator.uniform(-10, 10)))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    to_middle = np.array([[1, 0, -side / 2], [0, 1, -side / 2], [0, 0, 1]])
    return np.linalg.inv(to_middle) @ turn @ np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]]) @ to_middle


def _colour(brightness: float, contrast: float, saturation: float, generator: np.random.Generator):
    """A function that changes float32 pictures in 0..255, factors drawn now."""
    bright, strong, rich = (generator.uniform(1 - x, 1 + x) for x in (brightness, contrast, saturation))

    def change(picture: np.ndarray) -> np.ndarray:
        picture = picture * bright
        picture = (picture - picture.mean()) * strong + picture.mean()
        luma = (picture @ np.float32([0.299, 0.587, 0.114]))[..., None]
        return np.clip((picture - luma) * rich + luma, 0, 255).astype(np.float32)

    return change
