"""Which implementation of an operator runs: ``use_backend`` for a block, the tensor's device otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

BACKENDS = ("reference", "cpu", "gpu")

_requested = "auto"


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Operators called in this block run on ``name``, their gradients too, whenever those are computed.

    ``"reference"``: the specification in plain PyTorch, any device, slow. ``"cpu"``: the native kernels.
    ``"gpu"``: the Triton kernels (on CPU tensors only where Triton interprets, ``TRITON_INTERPRET=1``).
    Outside such a block a CPU tensor takes the native kernels, a CUDA tensor the Triton ones, and where they
    are absent or do not cover the arguments the reference runs. The choice holds for the whole process, not a
    thread.

    Raises ``ValueError`` for another name; an operator called in the block raises ``MissingDependencyError``
    where the kernels asked for are not there, and ``ValueError`` where they do not cover the arguments.
    """
    global _requested
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {name!r}")
    before, _requested = _requested, name
    try:
        yield
    finally:
        _requested = before


def requested_backend() -> str:
    """The name given to the innermost ``use_backend``, ``"auto"`` outside of any."""
    return _requested
