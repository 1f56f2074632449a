"""youtube-vis: average precision of instances found, named and followed; YouTube-VIS 2019 and 2021.

- Ground truth and results are JSON files. A result is a track with a category and a score.
- The overlap of two tracks is the number of pixels that they share in all frames together, divided by the
  number that either has; not the mean over frames.
- In each video and category the results, best score first, at most 100, take the annotation that they overlap
  most and that is still free; at thresholds 0.5, 0.55, ... 0.95. What matches a crowd, or an annotation
  outside the range of areas, counts for nothing.
- AP is the mean over thresholds, 101 points of recall and the categories that have an annotation. AP50 and
  AP75 are those at one threshold; APs, APm, APl those of annotations whose mean area (as stated in the file,
  over the frames that show them) is up to 128^2, up to 256^2, above: an area at the border is in both. AR1,
  AR10, AR100 are the recalls with that many results a video and category. -1 where there is nothing to find.
- The official tool takes a match with annotation id 0 for a miss; ``fixed`` does not.

Equals YTVOSeval of youtubevos/cocoapi.
"""

from __future__ import annotations

from pathlib import Path

from pliant.evaluation.report import Report
from pliant.evaluation.tracks import AREAS, evaluate_tracks
from pliant.evaluation.workers import Progress

__all__ = ["evaluate_youtube_vis"]


def evaluate_youtube_vis(
    gt: str | Path,
    results: str | Path,
    *,
    fixed: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """AP and AR by the rules of YouTube-VIS (see the module's text).

    Parameters
    ----------
    gt:
        The annotation file (JSON).
    results:
        The results file: a JSON list of {video_id, category_id, score, segmentations: RLE or null a frame}.
    fixed:
        A match with annotation id 0 is a match.
    jobs, progress:
        As in :func:`pliant.evaluation.workers.run_tasks`.

    Raises DatasetError and ResultsError.
    """
    return evaluate_tracks(
        "youtube-vis", Path(gt), Path(results), AREAS, lambda annotation, path: 0.0, fixed, jobs, progress
    )
