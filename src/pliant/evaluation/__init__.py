"""The official numbers: one file a protocol, its rules in plain words on top."""

from __future__ import annotations

import importlib
from typing import Any

from pliant.errors import UnknownNameError
from pliant.evaluation.report import Report

__all__ = ["BY_FRAME", "PROTOCOLS", "Report", "evaluate"]

# protocol -> (module:function, the options that it takes besides jobs and progress)
PROTOCOLS = {
    "davis2016": ("pliant.evaluation.davis2016:evaluate_davis2016", ("split", "convention", "fixed")),
    "davis2017": ("pliant.evaluation.davis2017:evaluate_davis2017", ("split", "fixed")),
    "davis2017-unsupervised": (
        "pliant.evaluation.davis2017_unsupervised:evaluate_davis2017_unsupervised",
        ("split", "fixed"),
    ),
    "youtube-vis": ("pliant.evaluation.youtube_vis:evaluate_youtube_vis", ("fixed",)),
    "ovis": ("pliant.evaluation.ovis:evaluate_ovis", ("fixed",)),
    "kitti-mots": ("pliant.evaluation.kitti_mots:evaluate_kitti_mots", ("split", "seqmap")),
    "youtube-vos": ("pliant.evaluation.youtube_vos:evaluate_youtube_vos", ("convention", "seen_categories")),
}
# Protocols whose reports have curves: scores frame by frame.
BY_FRAME = ("davis2016", "davis2017", "davis2017-unsupervised", "youtube-vos")


def evaluate(protocol: str, gt: Any, results: Any, **options: Any) -> Report:
    """Score results by a protocol.

    Parameters
    ----------
    protocol:
        A name of ``PROTOCOLS``.
    gt, results:
        Paths of ground truth and results; what they must hold is said in the protocol's module.
    options:
        What the protocol takes: ``split``, ``convention``, ``fixed``, ... and ``jobs``, ``progress`` for all.

    >>> report = evaluate("davis2017", "DAVIS", "results")  # doctest: +SKIP
    >>> report.summary["J&F-Mean"]  # doctest: +SKIP
    """
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    place, known = PROTOCOLS[protocol]
    for option in options:
        if option not in (*known, "jobs", "progress"):
            raise UnknownNameError(f"option of {protocol}", option, (*known, "jobs", "progress"))
    module, function = place.split(":")
    return getattr(importlib.import_module(module), function)(gt, results, **options)
