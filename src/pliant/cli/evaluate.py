"""``pliant evaluate``: score results by the rules of a benchmark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from pliant.evaluation import BY_FRAME, PROTOCOLS, Report, evaluate
from pliant.evaluation.output import check_output, write_bytes

__all__ = ["evaluate_command"]

_PATH = click.Path(path_type=Path)
# Options that a protocol may do without: said, not refused.
_WITHOUT_EFFECT = {
    "split": "--set changes nothing: {protocol} takes all that --gt holds",
    "fixed": "--fixed changes nothing: no bug of the official tool changes numbers of {protocol}",
}


@click.command("evaluate")
@click.argument("protocol", type=click.Choice(list(PROTOCOLS)))
@click.option("--gt", required=True, type=_PATH, help="Ground truth: root of the dataset, or its file.")
@click.option("--results", required=True, type=_PATH, help="Folder or file of results.")
@click.option("--set", "split", help="Split of the dataset.  [default: val]")
@click.option("--convention", help="Which reading of the rules, where a protocol has several.")
@click.option("--seen-categories", type=_PATH, help="Names, one a line.  [default: the official 65]")
@click.option("--seqmap", type=_PATH, help="Map of sequences of kitti-mots, where it lies elsewhere.")
@click.option("--fixed", is_flag=True, default=None, help="Right numbers where the official tool has a bug.")
@click.option("--json", "json_path", type=_PATH, help="Write everything, in full precision.")
@click.option("--csv", "csv_path", type=_PATH, help="Write the official columns, in full precision.")
@click.option("--plot", "plot_path", type=_PATH, help="Draw J and F by frame and the worst frames (PNG).")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option("-q", "--quiet", is_flag=True, help="Only the summary: no progress, no rows.")
def evaluate_command(
    protocol: str,
    gt: Path,
    results: Path,
    json_path: Path | None,
    csv_path: Path | None,
    plot_path: Path | None,
    jobs: int | None,
    quiet: bool,
    **given: Any,
) -> None:
    """Score results by the rules of PROTOCOL."""
    if plot_path is not None and protocol not in BY_FRAME:
        raise click.UsageError(f"--plot needs scores by frame, and {protocol} has none")
    for path in (json_path, csv_path, plot_path):
        if path is not None:
            check_output(path, gt, results)
    options = {name: value for name, value in given.items() if value is not None}
    known = PROTOCOLS[protocol][1]
    unused = [name for name in options if name not in known and name in _WITHOUT_EFFECT]
    refused = [name for name in options if name not in known and name not in _WITHOUT_EFFECT]
    if refused:
        raise click.UsageError(f"--{refused[0].replace('_', '-')} does not apply to {protocol}")
    chosen = {name: value for name, value in options.items() if name in known}
    report = _run(protocol, gt, results, {**chosen, "jobs": jobs}, quiet)
    report.warnings += [_WITHOUT_EFFECT[name].format(protocol=protocol) for name in unused]
    _print(report, quiet)
    writers = ((json_path, report.to_json), (csv_path, report.to_csv), (plot_path, lambda: _plot(report)))
    for path, content in writers:
        if path is not None:
            data = content()
            write_bytes(path, data.encode() if isinstance(data, str) else data)
            click.echo(f"written: {path}")


def _plot(report: Report) -> bytes:
    """The curves and worst frames as a PNG."""
    import io

    from PIL import Image

    from pliant.evaluation.plot import draw_report

    file = io.BytesIO()
    Image.fromarray(draw_report(report)).save(file, "PNG")
    return file.getvalue()


def _run(protocol: str, gt: Path, results: Path, options: dict[str, Any], quiet: bool) -> Report:
    """Evaluate under a progress bar, which goes away when it is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} frames"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=quiet or not console.is_terminal
    ) as bar:
        task = bar.add_task(protocol, total=None)
        return evaluate(
            protocol,
            gt,
            results,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **options,
        )


def _print(report: Report, quiet: bool) -> None:
    """The numbers as a table (one a class, where there are classes), then what to know about them."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # into a file or a pipe every column goes whole
        console = Console(width=200)
    rows = _rows(report)
    total = {**rows.pop("all", {}), **report.summary}
    for group in dict.fromkeys(name.rpartition(".")[0] for name in total):
        columns = [name for name in total if name.rpartition(".")[0] == group]
        console.print(_table(report, group, columns, {} if quiet else rows, total))
    for sentence in report.to_dict()["warnings"]:
        console.print(f"warning: {sentence}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _table(
    report: Report, group: str, columns: list[str], rows: dict[str, dict[str, Any]], total: dict[str, Any]
) -> Any:
    """A row a sequence, and the mean last."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = ", ".join(filter(None, [report.protocol, report.convention and f"convention {report.convention}", group]))
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name.rpartition(".")[2], justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(name, *(_number(row.get(column)) for column in columns))
    table.add_row("all", *(_number(total[column]) for column in columns), style="bold")
    return table


def _rows(report: Report) -> dict[str, dict[str, Any]]:
    """The rows of the table: sequences, or categories where the protocol has no sequences."""
    rows = {}
    for name, row in (report.sequences or report.objects).items():
        classes = {key: part for key, part in row.items() if isinstance(part, dict)}
        if classes:
            row = {f"{key}.{inner}": number for key, part in classes.items() for inner, number in part.items()}
        if "J-Mean" in row:
            row = {**row, "J&F-Mean": (row["J-Mean"] + row["F-Mean"]) / 2}
        rows[row.get("category", name)] = row
    return rows


def _number(value: Any) -> str:
    """A number as the tables of papers have it."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if math.isfinite(value) else "null"
