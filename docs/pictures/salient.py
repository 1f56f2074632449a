"""What `pliant salient` finds in clips, a row of three frames each; and how far the D² layers look in the first clip.

python docs/pictures/salient.py CLIP[@FRAME] ... --out salient.jpg [--maps salient_maps.jpg] [--frames 24]

FRAME: the first one that is read. The maps are means over layers, axes and taps: dilation 0 to 2, modulation 0 to 1.
"""

from __future__ import annotations

import argparse
from itertools import islice

import cv2
import numpy as np

import pliant
from pliant import video
from pliant.inference.connected_objects import ConnectedObjects
from pliant.inference.frames import prepare
from pliant.inference.salient import SalientStream
from pliant.video.draw import draw_overlay
from pliant.video.heatmap import draw_heatmap

_HEIGHT = 240
_BRIGHTEST = {"dilation": 2.0, "modulation": 1.0}


def small(image: np.ndarray) -> np.ndarray:
    width = round(image.shape[1] * _HEIGHT / image.shape[0])
    return cv2.resize(image, (width, _HEIGHT), interpolation=cv2.INTER_AREA)


def looked_at(network, place: str, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three overlays, and a middle frame under each map."""
    file, _, first = place.partition("@")
    with video.read(file, start=int(first or 0)) as reader:
        images = [frame.image for frame in islice(reader, count)]
    stream, objects = SalientStream(network, show=tuple(_BRIGHTEST)), ConnectedObjects()
    found = [p for image in images for p in stream.push(image)] + stream.finish()
    labels = [objects.label(p > 0.5) for p in found]
    chosen = [len(images) * part // 6 for part in (1, 3, 5)]
    overlays = [small(draw_overlay(images[i], labels[i])) for i in chosen]
    middle = chosen[1]
    maps = [
        small(draw_heatmap(images[middle], stream.maps[middle][name], 0.0, high)) for name, high in _BRIGHTEST.items()
    ]
    return overlays, [small(images[middle]), *maps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--maps")
    parser.add_argument("--frames", type=int, default=24)
    arguments = parser.parse_args()
    network = prepare(pliant.load(task="salient"))
    rows, maps = zip(*(looked_at(network, clip, arguments.frames) for clip in arguments.clips))
    rows = [np.hstack(row) for row in rows]
    width = max(row.shape[1] for row in rows)
    even = [cv2.resize(row, (width, round(row.shape[0] * width / row.shape[1]))) for row in rows]
    cv2.imwrite(arguments.out, np.vstack(even)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if arguments.maps:
        cv2.imwrite(arguments.maps, np.hstack(maps[0])[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
