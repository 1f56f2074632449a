"""Official checkpoints into safetensors files that load here without a question."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pliant.errors import OutputError, WeightsError
from pliant.models import MODELS, load
from pliant.models.spvos.checkpoint import from_torchvision
from pliant.weights import read_state
from pliant.weights.known_files import KNOWN_FILES, recognise

__all__ = ["Conversion", "convert_checkpoint"]


@dataclass(frozen=True)
class Conversion:
    """What a conversion found and wrote."""

    what: str  # "STCN", "XMem", ...
    model: str  # the name that the file now loads under
    tensors: int
    parameters: int


def convert_checkpoint(
    sources: Sequence[Path], out: Path, *, model: str | None = None, overwrite: bool = False
) -> Conversion:
    """Write the weights in ``sources`` to the safetensors file ``out``.

    One source: an official checkpoint, told by its keys (or named by ``model``, a key of ``MODELS``); the result is
    a whole network. Two: torchvision's ResNet-50 and ResNet-18 in either order; the result starts a training of the
    STCN family. Raises ``WeightsError`` for a file that is neither, ``OutputError`` where ``out`` cannot be written.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists; pass overwrite (--overwrite) to replace it.")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder; make it, or choose another place for {out.name}.")
    if len(sources) == 2:
        return _initial_weights(sources, out)
    if len(sources) != 1:
        raise WeightsError(f"expected one checkpoint, or torchvision's ResNet-50 and ResNet-18, got {len(sources)}.")
    source = Path(sources[0])
    known = recognise(read_state(source))
    model = model or (known and known.model)
    if model is None:
        what = f"a file of {known.what}, which is no whole network here" if known else "of no layout known here"
        convertible = ", ".join(each.what for each in KNOWN_FILES if each.model in MODELS)
        raise WeightsError(f"{source} is {what}; expected one of: {convertible} (or name its model with --model).")
    network = load(model, source)
    state = network.state_dict()
    _write({key: value.contiguous() for key, value in state.items()}, out, {"model": model, "source": source.name})
    return Conversion(known.what if known else model, model, len(state), sum(p.numel() for p in network.parameters()))


def _initial_weights(sources: Sequence[Path], out: Path) -> Conversion:
    states = [read_state(Path(source)) for source in sources]
    deep = ["layer1.0.conv3.weight" in state for state in states]
    if sorted(deep) != [False, True] or any("layer3.1.conv2.weight" not in state for state in states):
        raise WeightsError(f"{sources[0]} and {sources[1]} are not torchvision's ResNet-50 and ResNet-18.")
    state = from_torchvision(states[deep.index(True)], states[deep.index(False)])
    _write(state, out, {"initial": "stcn", "source": ", ".join(Path(source).name for source in sources)})
    floats = sum(value.numel() for value in state.values() if value.is_floating_point())
    return Conversion("torchvision ResNets", "stcn", len(state), floats)


def _write(state: dict[str, Tensor], out: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        save_file(state, temporary, metadata)
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{out} cannot be written: {error.strerror or error}.") from error
