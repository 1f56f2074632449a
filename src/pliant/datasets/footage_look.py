"""What a camera does to a picture: paths that wander, light that drifts, blur, noise and compression."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["compress", "expose", "light", "wander"]


def wander(rng: np.random.Generator, length: int, step: float, shape: tuple[int, ...] = ()) -> np.ndarray:
    """A smooth random path [T, *shape] that starts at 0 and moves about ``step`` a frame, with momentum."""
    velocity = rng.normal(0, step, shape)
    path = [np.zeros(shape)]
    for _ in range(length - 1):
        velocity = 0.8 * velocity + 0.6 * rng.normal(0, step, shape)
        path.append(path[-1] + velocity)
    return np.stack(path)


def light(rng: np.random.Generator, length: int) -> np.ndarray:
    """Gain and offset a colour [T, 2, 3] that drift along the clip."""
    strength = rng.choice([0.0, 0.02, 0.06], p=[0.3, 0.5, 0.2])
    gain = 1 + rng.normal(0, 0.08, 3) + wander(rng, length, strength)[:, None]
    gain = gain + wander(rng, length, strength / 3, (3,))
    offset = rng.normal(0, 6, 1) + wander(rng, length, 60 * strength)[:, None] * np.ones(3)
    return np.stack([gain, offset], 1)


def expose(canvas: np.ndarray, light: np.ndarray, rng: np.random.Generator, sharpness: float) -> np.ndarray:
    image = canvas * light[0].astype(np.float32) + light[1].astype(np.float32)
    if sharpness < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), 0.4 + 4 * (0.25 - sharpness))
    noise = rng.choice([0.0, 2.0, 5.0], p=[0.5, 0.35, 0.15])
    if noise:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    return np.clip(image, 0, 255).astype(np.uint8)


def compress(frames: np.ndarray, rng: np.random.Generator) -> None:
    if rng.random() < 0.3:
        quality = int(rng.integers(30, 90))
        for t, frame in enumerate(frames):
            _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
            frames[t] = cv2.imdecode(data, cv2.IMREAD_COLOR)
