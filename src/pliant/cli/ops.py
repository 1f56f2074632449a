"""``pliant ops``: which operators run fast on this machine, and why others do not."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def ops(as_json: bool) -> None:
    """Say which kernels this installation has for each operator, and what is missing."""
    from pliant.ops.status import status

    found = status()
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    kernels, gpu = found["native"], found["gpu"]
    if kernels["missing"]:
        click.echo(f"native kernels: none; {kernels['missing']}")
    else:
        click.echo(f"native kernels: {kernels['instruction_set']}, {kernels['threads']} threads")
    click.echo(f"GPU: {gpu or 'none that PyTorch sees'}")
    width = max(len(name) for name in found["operators"])
    for name, backends in found["operators"].items():
        marks = "  ".join(f"{backend} {'yes' if reason is None else 'no '}" for backend, reason in backends.items())
        click.echo(f"{name:<{width}}  {marks}")
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, backends in found["operators"].items():
        for backend, reason in backends.items():
            if reason is not None:
                reasons.setdefault((backend, reason), []).append(name)
    for (backend, reason), names in sorted(reasons.items()):
        click.echo(f"{backend}, {'all' if len(names) == len(found['operators']) else ', '.join(names)}: {reason}")
