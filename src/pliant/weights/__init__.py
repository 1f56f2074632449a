"""Weights: embedded safetensors files with a model card each, and safe reading of anybody's checkpoints."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from pliant.errors import WeightsError
from pliant.weights.known_files import recognise

__all__ = ["embedded", "fit_weights", "model_in", "read_state", "read_weights"]

FOLDER = Path(__file__).parent


def embedded(name: str, file: str | None) -> Path:
    """Path of the embedded weights of model ``name``; raises ``WeightsError`` where there are none."""
    if file is None:
        raise WeightsError(f"pliant carries no weights for {name!r}: pass weights=PATH (--weights PATH).")
    path = FOLDER / file
    if not path.is_file():
        raise WeightsError(f"the weights of {name!r} ({file}) are not in this installation: reinstall pliant.")
    return path


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """State dict in a safetensors or PyTorch file, unwrapped; nothing in the file is executed.

    A dictionary under ``state_dict``, ``model`` or ``network`` is taken, a leading ``module.`` stripped.
    Raises ``WeightsError`` that says what the file is.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; expected a safetensors file or a PyTorch checkpoint.")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected a safetensors file or a PyTorch checkpoint.")
    with path.open("rb") as file:
        head = file.read(16)
    try:
        if head[8:9] == b"{":
            from safetensors.torch import load_file

            return load_file(path)
        if head[:2] != b"PK" and head[:1] != b"\x80":
            raise WeightsError(f"{path} is {_describe(head)}, not a safetensors file or a PyTorch checkpoint.")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # every reader has its own exceptions; all mean: not readable as weights
        if "Weights only load failed" in str(error):
            raise WeightsError(
                f"{path} holds pickled Python objects beside its tensors, and pliant runs nothing out of a file: "
                "save its state dict alone (torch.save(network.state_dict(), PATH)) and try again."
            ) from error
        raise WeightsError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    for key in ("state_dict", "model", "network"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds {type(state).__name__}, not a dictionary of tensors.")
    state = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    return {key.removeprefix("module."): value for key, value in state.items()}


def read_weights(network: torch.nn.Module, path: Path, *, family: str, name: str) -> None:
    """Load ``path`` into ``network``, official key names included; exact match or ``WeightsError``."""
    fit_weights(network, read_state(path), path, family=family, name=name)


def fit_weights(
    network: torch.nn.Module, given: dict[str, torch.Tensor], path: Path, *, family: str, name: str
) -> None:
    """Load a state dict that was read from ``path`` into ``network``, which is ``name`` of ``family``.

    Official key names are translated. Raises ``WeightsError``, which says what the file is and which keys are
    missing, unknown or of another shape.
    """
    state, expected = given, network.state_dict()
    if any(key not in state or state[key].shape != value.shape for key, value in expected.items()):
        state = importlib.import_module(f"pliant.models.{family}.checkpoint").from_official(state, network)
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in expected]
    wrong = [
        f"{key} {tuple(state[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if missing or unknown or wrong:
        known = recognise(given)
        is_what = f" is a file of {known.what} and" if known and known.model != name else ""
        raise WeightsError(
            f"{path}{is_what} does not fit {name!r}: {_list('missing', missing)}; {_list('unknown', unknown)}; "
            f"{_list('of another shape', wrong)}."
        )
    network.load_state_dict({key: value.to(expected[key].dtype) for key, value in state.items()}, strict=False)


def model_in(path: Path, state: dict[str, torch.Tensor]) -> str | None:
    """The model that a file of weights names itself, or that its keys are those of; None: cannot be told."""
    with Path(path).open("rb") as file:
        is_safetensors = file.read(9)[8:] == b"{"
    if is_safetensors:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            named = (file.metadata() or {}).get("model")
        if named:
            return named
    known = recognise(state)
    return known.model if known else None


def _list(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")


def _describe(head: bytes) -> str:
    known = {
        b"\x89PNG": "a PNG image",
        b"\xff\xd8\xff": "a JPEG image",
        b"GIF8": "a GIF image",
        b"\x1f\x8b": "a gzip archive",
    }
    for magic, what in known.items():
        if head.startswith(magic):
            return what
    if head[4:8] == b"ftyp":
        return "a video"
    return "empty" if not head else "a file of unknown kind"
