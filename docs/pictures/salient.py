"""What `pliant salient` finds in clips, a row each; and how far the D² layers look in the last clip.

python docs/pictures/salient.py CLIP[@FRAME] ... --out salient.jpg [--maps salient_maps.jpg] [--frames 24]

FRAME: the first one that is read. Upright clips show more frames. The maps are means over layers, axes and taps, dark
to bright over the range that is printed: 1 % to 99 % of what there is.
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

_HEIGHT, _WIDTH = 240, 1290
_MAPS = ("dilation", "modulation")


def small(image: np.ndarray) -> np.ndarray:
    width = round(image.shape[1] * _HEIGHT / image.shape[0])
    return cv2.resize(image, (width, _HEIGHT), interpolation=cv2.INTER_AREA)


def looked_at(network, place: str, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Overlays that fill a row, and a middle frame beside itself under each map."""
    file, _, first = place.partition("@")
    with video.read(file, start=int(first or 0)) as reader:
        images = [frame.image for frame in islice(reader, count)]
    stream, objects = SalientStream(network, show=_MAPS), ConnectedObjects()
    found = [p for image in images for p in stream.push(image)] + stream.finish()
    labels = [objects.label(p > 0.5) for p in found]
    fitting = _WIDTH // small(images[0]).shape[1]
    chosen = [(2 * part + 1) * len(images) // (2 * fitting) for part in range(fitting)]
    overlays = [small(draw_overlay(images[i], labels[i])) for i in chosen]
    middle, maps = len(images) // 2, []
    for name in _MAPS:
        values = stream.maps[middle][name]
        low, high = np.percentile(values, (1, 99))
        print(f"{place}: {name} from {low:.2f} (dark) to {high:.2f} (bright)")
        maps.append(small(draw_heatmap(images[middle], values, low, high)))
    return overlays, [small(images[middle]), *maps]


def write(file: str, picture: np.ndarray) -> None:
    cv2.imwrite(file, picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


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
    even = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write(arguments.out, np.vstack(even))
    if arguments.maps:
        write(arguments.maps, np.hstack(maps[-1]))


if __name__ == "__main__":
    main()
