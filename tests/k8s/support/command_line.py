"""Checks whether the real command line accepts a command."""

from __future__ import annotations

from typer.main import get_command

from ray_job.__main__ import app


def parse(command: list[str]) -> None:
    """Parse `command` with all option values, without running it. Raises the parser's error."""
    program, *rest = command
    assert program == "storecast"
    group = get_command(app)
    context = group.make_context(program, rest)
    name, subcommand, arguments = group.resolve_command(
        context, [*context._protected_args, *context.args]
    )
    subcommand.make_context(name, arguments, parent=context)
