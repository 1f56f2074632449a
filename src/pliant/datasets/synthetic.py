"""Synthetic clips with exact masks: cut-outs and pieces of photographs move, bend and hide over moving pictures.

A clip is a function of its seed alone, so that a training run can be repeated and resumed exactly. What is imitated:
camera motion, motion of objects against it, bending, occlusion by objects and by strips of background, leaving and
returning, things that turn and show another side, look-alikes, light that drifts, motion blur, noise, compression;
where asked for, what moves and is no thing: shadows, and ground that stirs like water or leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from pliant.datasets.footage_look import compress, expose, light, wander
from pliant.datasets.pictures import PictureStore

__all__ = ["SyntheticClip", "SyntheticClips", "make_clip"]


@dataclass(frozen=True)
class SyntheticClip:
    """frames [T, H, W, 3] uint8 RGB; labels [T, H, W] uint8, 0 background, 1.. the objects of the first frame.

    ``own_motion``: for each labelled object whether it moves against the camera. ``moving`` [T, H, W] bool: pixels of
    everything that does, labelled or not. ``placed`` [T, H, W] bool: of everything that is no background or occluder.
    """

    frames: np.ndarray
    labels: np.ndarray
    own_motion: tuple[bool, ...]
    moving: np.ndarray
    placed: np.ndarray


@dataclass(frozen=True)
class SyntheticClips:
    """Clips by index, the same for ever for a seed.

    speed: scales all motion (a curriculum raises it). still: share of the things that do not move against the camera.
    shadows: share of the things that cast one on what is behind them; restless: share of the clips in which the ground
    stirs. Neither counts as a thing.
    """

    store: PictureStore
    seed: int = 0
    size: tuple[int, int] = (256, 256)  # rows, columns
    length: int = 4
    speed: float = 1.0
    max_objects: int = 3
    still: float = 0.15
    shadows: float = 0.0
    restless: float = 0.0

    def __getitem__(self, index: int) -> SyntheticClip:
        """Clip ``index``; tries further seeds until its first frame shows at least one object."""
        for attempt in range(50):
            rng = np.random.default_rng([self.seed, index, attempt])
            clip = make_clip(
                self.store, rng, self.size, self.length,
                speed=self.speed, max_objects=self.max_objects, still=self.still,
                shadows=self.shadows, restless=self.restless,
            )  # fmt: skip
            if clip is not None:
                return clip
        raise RuntimeError(f"no usable clip in 50 tries for index {index}")


@dataclass
class _Layer:
    """A thing that moves: premultiplied RGBA picture, its path over the frames, and what it counts as."""

    picture: np.ndarray  # [h, w, 4] float32, premultiplied, 0..255 and alpha 0..1 in the last channel
    centre: np.ndarray  # [T, 2] x, y in pixels of the frame
    scale: np.ndarray  # [T] frame pixels a picture pixel
    stretch: np.ndarray  # [T] aspect change
    angle: np.ndarray  # [T] radians
    bend: np.ndarray  # [T, 4, 4, 2] displacement in picture pixels
    gain: np.ndarray  # [T]
    blur: float  # share of the motion between frames that is smeared
    role: str  # "object", "distractor", "occluder", "shadow"
    own_motion: bool
    surface: np.ndarray | None = None  # [h, 2 w, 3] float32, what a turning thing shows beside what it shows first
    turn: np.ndarray | None = None  # [T] how many columns of ``surface`` have come round, integers in 0..w
    from_left: bool = False


def make_clip(
    store: PictureStore,
    rng: np.random.Generator,
    size: tuple[int, int],
    length: int,
    *,
    speed: float = 1.0,
    max_objects: int = 3,
    still: float = 0.15,
    shadows: float = 0.0,
    restless: float = 0.0,
) -> SyntheticClip | None:
    """One clip, or None where its first frame shows no object well enough."""
    pace = speed * float(np.exp(rng.uniform(np.log(0.15), np.log(1.0))))
    background, camera = _background(store, rng, size, length, pace)
    layers = _layers(store, rng, size, length, pace, max_objects, camera, still)
    # Drawn last and only where asked for: all other clips stay what they were.
    if restless and rng.random() < restless:
        background = _stirred(background, rng)
    if shadows:
        layers = [part for layer in layers for part in _with_shadow(layer, rng, shadows)]
    frames = np.empty((length, *size, 3), np.uint8)
    owner = np.empty((length, *size), np.uint8)
    exposure = light(rng, length)
    sharpness = rng.uniform(0, 1)
    for t in range(length):
        canvas = background[t]
        ids = np.zeros(size, np.uint8)
        for number, layer in enumerate(layers, start=1):
            _paint(canvas, ids, layer, t, number)
        frames[t] = expose(canvas, exposure[t], rng, sharpness)
        owner[t] = ids
    compress(frames, rng)
    return _finish(frames, owner, layers)


def _finish(frames: np.ndarray, owner: np.ndarray, layers: list[_Layer]) -> SyntheticClip | None:
    """Number the objects that the first frame shows: at least 0.2 % of it, at most 70 %."""
    table = np.zeros(256, np.uint8)
    own_motion: list[bool] = []
    counts = np.bincount(owner[0].ravel(), minlength=256) / owner[0].size
    for number, layer in enumerate(layers, start=1):
        if layer.role == "object" and 0.002 <= counts[number] <= 0.7:
            own_motion.append(layer.own_motion)
            table[number] = len(own_motion)
    if not own_motion:
        return None
    moves, placed = np.zeros(256, bool), np.zeros(256, bool)
    for number, layer in enumerate(layers, start=1):
        placed[number] = layer.role not in ("occluder", "shadow")
        moves[number] = layer.own_motion and placed[number]
    return SyntheticClip(frames, table[owner], tuple(own_motion), moves[owner], placed[owner])


# Background ------------------------------------------------------------------------------------------------------


def _photo(store: PictureStore, rng: np.random.Generator) -> np.ndarray:
    """A photograph or a film frame [H, W, 3] uint8."""
    if store.count("films") and rng.random() < 0.3:
        return store.get("films", rng.integers(store.count("films")))[rng.integers(4)]
    return store.get("photos", rng.integers(store.count("photos")))


def _background(
    store: PictureStore, rng: np.random.Generator, size: tuple[int, int], length: int, pace: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames [H, W, 3] float32 and the camera's matrices [T, 2, 3] that take frame 0 to frame t."""
    height, width = size
    runs = store.count("films")
    film = length <= 4 and runs and rng.random() < 0.2
    pictures = store.get("films", rng.integers(runs)) if film else [_photo(store, rng)] * length
    if film and rng.random() < 0.5:
        pictures = pictures[::-1]
    rows, columns = pictures[0].shape[:2]
    zoom = max(height / rows, width / columns) * float(np.exp(rng.uniform(0.05, 0.9)))
    if rows * zoom > 3.0 * height:  # large photographs: not only their middle magnified
        zoom = max(height / rows, width / columns) * float(np.exp(rng.uniform(0.05, 0.5)))
    calm = rng.random() < 0.25 or film
    drift = 0.0 if calm and rng.random() < 0.5 else (0.3 if calm else 1.0) * pace
    shift = wander(rng, length, 0.04 * drift * width, (2,))
    angle = rng.normal(0, 0.1) + wander(rng, length, 0.03 * drift)
    scale = zoom * np.exp(wander(rng, length, 0.03 * drift))
    margin = np.maximum(0, [columns * zoom - width, rows * zoom - height]) / 2
    start = rng.uniform(-margin, margin)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    matrices = np.zeros((length, 2, 3), np.float32)
    for t in range(length):
        cosine, sine = np.cos(angle[t]) * scale[t], np.sin(angle[t]) * scale[t]
        turn = np.array([[cosine * flip, -sine], [sine * flip, cosine]])
        middle = np.array([width, height]) / 2 + start + shift[t]
        matrices[t, :, :2] = turn
        matrices[t, :, 2] = middle - turn @ (np.array([columns, rows]) / 2)
    frames = [
        cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        .astype(np.float32)
        for picture, matrix in zip(pictures, matrices)
    ]  # fmt: skip
    first = np.vstack([matrices[0], [0, 0, 1]])
    camera = np.stack([(np.vstack([m, [0, 0, 1]]) @ np.linalg.inv(first))[:2] for m in matrices])
    return frames, camera


def _stirred(frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Frames whose ground stirs, all of it or in patches: smooth displacements of up to some pixels that wander."""
    height, width = frames[0].shape[:2]
    step = float(np.exp(rng.uniform(np.log(0.3), np.log(2.5))))
    fine = bool(rng.random() < 0.5)
    fields = wander(rng, len(frames), step, (14, 24, 2) if fine else (5, 8, 2)).astype(np.float32)
    where = np.ones((height, width, 1), np.float32)
    if rng.random() < 0.7:
        noise = cv2.resize(rng.random((4, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        where = np.clip(8 * (noise - 0.5) + 0.5, 0, 1)[:, :, None]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    stirred = []
    for frame, field in zip(frames, fields):
        shift = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) * where
        x, y = columns + shift[:, :, 0], rows + shift[:, :, 1]
        stirred.append(cv2.remap(frame, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
    return stirred


# Objects ---------------------------------------------------------------------------------------------------------


def _layers(
    store: PictureStore,
    rng: np.random.Generator,
    size: tuple[int, int],
    length: int,
    pace: float,
    max_objects: int,
    camera: np.ndarray,
    still: float,
) -> list[_Layer]:
    """What is painted, back to front."""
    count = 1 + int(rng.choice(max_objects, p=_weights(max_objects)))
    layers: list[_Layer] = []
    twins: list[tuple[_Layer, _Layer]] = []
    for _ in range(count):
        picture = _picture(store, rng)
        layers.append(_layer(picture, rng, size, length, pace, camera, "object", still))
        if rng.random() < 0.35:
            _make_turn(layers[-1], picture, store, rng, length)
            layers[-1].own_motion = True
        if rng.random() < 0.3:  # a look-alike that is not to be followed, or is another object
            twin = _alike(picture, rng)
            role = "object" if count < max_objects and rng.random() < 0.3 else "distractor"
            twins.append((layers[-1], _layer(twin, rng, size, length, pace, camera, role, still, like=layers[-1])))
    for _ in range(int(rng.choice(3, p=[0.5, 0.3, 0.2]))):
        layers.append(_layer(_picture(store, rng), rng, size, length, pace, camera, "distractor", still))
    rng.shuffle(layers)
    for original, twin in twins:
        place = next(i for i, layer in enumerate(layers) if layer is original)
        if twin.role == "distractor" and rng.random() < 0.25:  # comes out from behind what it looks like
            twin.centre += original.centre[0] - twin.centre[0] + rng.normal(0, 0.05, 2) * size[::-1]
            layers.insert(place, twin)
        else:
            layers.insert(place + int(rng.integers(2)), twin)
    for _ in range(int(rng.choice(3, p=[0.65, 0.25, 0.1]))):
        strip = _strip(store, rng, size)
        layers.append(_layer(strip, rng, size, length, pace, camera, "occluder", still))
    objects = [i for i, layer in enumerate(layers) if layer.role == "object"]
    for i in objects[max_objects:]:
        layers[i].role = "distractor"
    return layers


def _weights(count: int) -> np.ndarray:
    weights = np.array([0.4, 0.35, 0.25, 0.15, 0.1][:count])
    return weights / weights.sum()


def _picture(store: PictureStore, rng: np.random.Generator) -> np.ndarray:
    """RGBA [h, w, 4] uint8: a cut-out, or a piece of a photograph with a drawn outline."""
    if store.count("cutouts") and rng.random() < 0.62:
        picture = store.any_cutout(rng)
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        if rng.random() < 0.25:  # the outline of one thing, the surface of another
            picture = np.dstack([_piece(store, rng, picture.shape[:2]), picture[:, :, 3]])
        return _recolour(np.ascontiguousarray(picture), rng)
    side = rng.integers(96, 224, 2)
    return np.dstack([_piece(store, rng, tuple(side)), _outline(rng, tuple(side))])


def _piece(store: PictureStore, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A crop [h, w, 3] of a photograph at a random magnification."""
    photo = _photo(store, rng)
    factor = float(np.exp(rng.uniform(np.log(0.5), np.log(1.6))))
    rows = min(photo.shape[0], max(8, round(shape[0] / factor)))
    columns = min(photo.shape[1], max(8, round(shape[1] / factor)))
    top, left = rng.integers(photo.shape[0] - rows + 1), rng.integers(photo.shape[1] - columns + 1)
    crop = photo[top : top + rows, left : left + columns]
    return cv2.resize(crop, shape[::-1], interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A random shape [h, w] uint8: a wobbly ellipse, a polygon, or several joined limbs."""
    height, width = shape
    alpha = np.zeros(shape, np.uint8)
    kind = rng.choice(3, p=[0.45, 0.2, 0.35])
    if kind == 2:
        points = rng.uniform(0.15, 0.85, (rng.integers(3, 7), 2)) * [width, height]
        for a, b in zip(points[:-1], points[1:]):
            thickness = int(rng.uniform(0.04, 0.22) * min(shape))
            cv2.line(alpha, tuple(map(int, a)), tuple(map(int, b)), 255, max(3, thickness), cv2.LINE_AA)
        centre = points[rng.integers(len(points))]
        cv2.circle(alpha, tuple(map(int, centre)), int(rng.uniform(0.08, 0.22) * min(shape)), 255, -1, cv2.LINE_AA)
        return alpha
    angles = np.linspace(0, 2 * np.pi, 48 if kind == 0 else rng.integers(4, 9), endpoint=False)
    radius = np.ones(len(angles))
    if kind == 0:
        for frequency in range(1, 7):
            radius += rng.normal(0, 0.28 / frequency) * np.cos(frequency * angles + rng.uniform(0, 2 * np.pi))
    else:
        radius = rng.uniform(0.5, 1.0, len(angles))
    radius = np.clip(radius / radius.max(), 0.12, 1) * 0.49
    points = np.stack([width * (0.5 + radius * np.cos(angles)), height * (0.5 + radius * np.sin(angles))], 1)
    cv2.fillPoly(alpha, [points.astype(np.int32)], 255, cv2.LINE_AA)
    return alpha


def _strip(store: PictureStore, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A post, branch or leafy patch that hides what is behind it."""
    if rng.random() < 0.7:
        shape = (int(size[0] * rng.uniform(0.8, 1.6)), int(size[1] * rng.uniform(0.04, 0.22)))
        alpha = np.full(shape, 255, np.uint8)
    else:
        shape = (int(size[0] * 0.5), int(size[1] * 0.5))
        noise = cv2.resize(rng.random((9, 9)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
        alpha = (np.clip((noise - 0.55) * 12, 0, 1) * 255).astype(np.uint8)
    return np.dstack([_piece(store, rng, shape), alpha])


def _recolour(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.4:
        picture = picture.copy()
        hsv = cv2.cvtColor(picture[:, :, :3], cv2.COLOR_RGB2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(np.int16) + rng.integers(0, 180)) % 180
        hsv[:, :, 1] = np.clip(hsv[:, :, 1] * rng.uniform(0.3, 1.3), 0, 255)
        picture[:, :, :3] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return picture


def _alike(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    twin = picture.copy()
    if rng.random() < 0.5:
        twin = twin[:, ::-1].copy()
    shade = rng.uniform(0.75, 1.25)
    twin[:, :, :3] = np.clip(twin[:, :, :3] * shade, 0, 255)
    return twin


def _layer(
    picture: np.ndarray,
    rng: np.random.Generator,
    size: tuple[int, int],
    length: int,
    pace: float,
    camera: np.ndarray,
    role: str,
    still: float,
    like: _Layer | None = None,
) -> _Layer:
    height, width = size
    alpha = picture[:, :, 3:].astype(np.float32) / 255
    premultiplied = np.dstack([picture[:, :, :3] * alpha, alpha]).astype(np.float32)
    long_side = max(picture.shape[:2])
    if role == "occluder":
        scale = 1.0
    elif like is not None:
        scale = float(like.scale[0]) * float(np.exp(rng.normal(0, 0.15)))
    else:
        share = np.exp(rng.uniform(np.log(0.1), np.log(0.85)))  # long side, as a share of the frame
        scale = share * min(size) / long_side
    own_motion = role != "occluder" and rng.random() < 1 - still
    energy = pace if own_motion else 0.0
    start = rng.uniform(0.1, 0.9, 2) * [width, height]
    if role != "object" and rng.random() < 0.3:  # comes in later
        start = start + rng.choice([-1, 1], 2) * [width * 0.5, height * 0.5]
    reach = max(0.5, min(1.5, scale * long_side / (0.5 * min(size))))  # small things need not cross the picture at once
    path = start + wander(rng, length, 0.07 * energy * width * (0.4 + 0.6 * reach), (2,))
    # With the camera first, then on its own.
    centre = np.stack([camera[t, :, :2] @ path[t] + camera[t, :, 2] for t in range(length)])
    turn = np.arctan2(camera[:, 1, 0], camera[:, 0, 0])
    zoom = np.sqrt(np.abs(np.linalg.det(camera[:, :, :2])))
    swing = rng.choice([0.02, 0.08, 0.2], p=[0.4, 0.4, 0.2])
    bendable = 0.0 if role == "occluder" else rng.choice([0.0, 0.02, 0.05], p=[0.2, 0.4, 0.4])
    return _Layer(
        premultiplied,
        centre,
        scale * zoom * np.exp(wander(rng, length, 0.06 * energy)),
        np.exp(rng.normal(0, 0.1) + wander(rng, length, 0.05 * energy)),
        rng.normal(0, 0.3) * (role != "occluder") + turn + wander(rng, length, swing * energy),
        wander(rng, length, bendable * long_side * max(energy, 0.3 * pace), (4, 4, 2)).astype(np.float32),
        1 + wander(rng, length, 0.03 * pace),
        float(rng.uniform(0, 0.6)) if rng.random() < 0.5 else 0.0,
        role,
        own_motion,
    )


def _with_shadow(layer: _Layer, rng: np.random.Generator, share: float) -> list[_Layer]:
    """``layer``, behind it perhaps its shadow: flat, soft, at its foot, moving along."""
    if layer.role == "occluder" or rng.random() >= share:
        return [layer]
    rows, columns = layer.picture.shape[:2]
    flat, strength = rng.uniform(0.15, 0.6), rng.uniform(0.2, 0.65)
    picture = np.zeros_like(layer.picture)
    picture[:, :, 3] = strength * cv2.GaussianBlur(layer.picture[:, :, 3], (0, 0), 0.03 * max(rows, columns) + 0.5)
    down = 0.5 * rows * layer.scale / np.sqrt(layer.stretch)
    aside = rng.uniform(-0.4, 0.4) * columns * layer.scale
    return [
        replace(
            layer,
            picture=picture,
            centre=layer.centre + np.stack([aside, down], 1),
            scale=layer.scale * np.sqrt(flat),
            stretch=layer.stretch / flat,
            angle=0.3 * layer.angle,
            role="shadow",
            surface=None,
            turn=None,
        ),
        layer,
    ]


def _make_turn(
    layer: _Layer, picture: np.ndarray, store: PictureStore, rng: np.random.Generator, length: int
) -> None:
    """Let ``layer`` turn about its long axis: its surface slides under its outline, and another side comes round.

    A network that sees only rigid surfaces learns that what looks new is not the object.
    """
    rows, columns = picture.shape[:2]
    alpha = picture[:, :, 3:].astype(np.float32) / 255
    side = max(3, max(rows, columns) // 4 * 2 + 1)
    spread = cv2.blur(layer.picture, (side, side))  # the colours near the outline go on beyond it
    own = picture[:, :, :3] * alpha + (1 - alpha) * spread[:, :, :3] / np.maximum(spread[:, :, 3:], 1e-2)
    if rng.random() < 0.5:
        other = _piece(store, rng, (rows, columns)).astype(np.float32)
    else:
        other = _recolour(np.clip(own, 0, 255).astype(np.uint8)[:, ::-1], rng).astype(np.float32)
    layer.from_left = bool(rng.random() < 0.5)
    layer.surface = np.concatenate([other, own] if layer.from_left else [own, other], 1)
    reach = rng.uniform(0.15, 0.8) * columns
    ease = np.clip((np.arange(length) - rng.uniform(-1, length - 2)) / max(1, length - 1), 0, 1)
    layer.turn = np.round(reach * ease).astype(int)


# Painting --------------------------------------------------------------------------------------------------------


def _paint(canvas: np.ndarray, ids: np.ndarray, layer: _Layer, t: int, number: int) -> None:
    """Paint ``layer`` over ``canvas`` [H, W, 3] and note ``number`` where it covers more than half, in place."""
    rows, columns = layer.picture.shape[:2]
    sx, sy = layer.scale[t] * np.sqrt(layer.stretch[t]), layer.scale[t] / np.sqrt(layer.stretch[t])
    cosine, sine = np.cos(layer.angle[t]), np.sin(layer.angle[t])
    x, y = layer.centre[t]
    reach_x = (abs(cosine) * columns * sx + abs(sine) * rows * sy) * 0.56 + 4
    reach_y = (abs(sine) * columns * sx + abs(cosine) * rows * sy) * 0.56 + 4
    left, right = max(0, int(x - reach_x)), min(canvas.shape[1], int(x + reach_x) + 1)
    top, bottom = max(0, int(y - reach_y)), min(canvas.shape[0], int(y + reach_y) + 1)
    if right - left < 2 or bottom - top < 2 or sx <= 0 or sy <= 0:
        return
    across = np.arange(left, right, dtype=np.float32) - np.float32(x)
    down = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    u = (across * np.float32(cosine / sx) + down * np.float32(sine / sx)) + np.float32(columns / 2 - 0.5)
    v = (down * np.float32(cosine / sy) - across * np.float32(sine / sy)) + np.float32(rows / 2 - 0.5)
    if layer.bend[t].any():
        bend = cv2.resize(layer.bend[t], (columns, rows), interpolation=cv2.INTER_CUBIC)
        shift = cv2.remap(bend, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        u, v = u + shift[:, :, 0], v + shift[:, :, 1]
    picture = layer.picture if layer.surface is None else _turned(layer, t)
    if layer.scale[t] < 0.6:  # keep what is shrunk from flickering
        picture = _halved(picture)
        u, v = (u - 0.5) / 2, (v - 0.5) / 2
    patch = cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    if layer.blur and t:
        patch = _smear(patch, (layer.centre[t] - layer.centre[t - 1]) * layer.blur)
    alpha = patch[:, :, 3:]
    view = canvas[top:bottom, left:right]
    view *= 1 - alpha
    view += patch[:, :, :3] * np.float32(layer.gain[t])
    if layer.role != "shadow":
        ids[top:bottom, left:right][alpha[:, :, 0] > 0.5] = number


def _turned(layer: _Layer, t: int) -> np.ndarray:
    """The picture of a turning thing at frame t: premultiplied RGBA."""
    alpha = layer.picture[:, :, 3:]
    columns, shift = alpha.shape[1], layer.turn[t]
    start = columns - shift if layer.from_left else shift
    return np.dstack([layer.surface[:, start : start + columns] * alpha, alpha])


def _halved(picture: np.ndarray) -> np.ndarray:
    rows, columns = picture.shape[:2]
    return cv2.resize(picture, (max(1, columns // 2), max(1, rows // 2)), interpolation=cv2.INTER_AREA)


def _smear(patch: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Blur along ``motion`` (x, y in pixels)."""
    length = int(min(15, np.hypot(*motion)))
    if length < 2:
        return patch
    kernel = np.zeros((length | 1, length | 1), np.float32)
    middle = np.array([length // 2, length // 2])
    step = motion / max(np.hypot(*motion), 1e-6) * (length / 2)
    cv2.line(kernel, tuple(np.round(middle - step).astype(int)), tuple(np.round(middle + step).astype(int)), 1.0)
    return cv2.filter2D(patch, -1, kernel / kernel.sum())
