"""The command that makes development tokens: token."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from ray_job.cli import output
from ray_job.cli.command_context import Json

app = typer.Typer()


@app.command()
def token(
    subject: Annotated[str, typer.Option(help="Whom the token names.")] = "developer",
    email: Annotated[
        str | None, typer.Option(help="A verified e-mail address.", show_default=False)
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, help="How long it holds.")] = 60,
    folder: Annotated[
        Path, typer.Option("--key", help="The directory of the key; made if there is none.")
    ] = Path(".storecast"),
    as_json: Json = False,
) -> None:
    """A development token for the API, from a local key.

    Prints the token alone; with --json also the entry for STORECAST_API_ISSUERS.
    """
    from ray_job.operations import tokens

    key = tokens.open_key(folder)
    now = datetime.now(UTC)
    lifetime = timedelta(minutes=minutes)
    made = key.token(
        subject=subject, email=email, audience=tokens.AUDIENCE, now=now, lifetime=lifetime
    )
    if as_json:
        expires = (now + lifetime).isoformat()
        told = {"token": made, "expires_at": expires, "issuers": [key.issuer]}
        output.say(json.dumps(told))
    else:
        output.say(made)
