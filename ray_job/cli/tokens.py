"""The command that makes development tokens: token."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from ray_job.cli.command_context import Json

app = typer.Typer()


@app.command()
def token(
    subject: Annotated[str, typer.Option(help="Whom the token names.")] = "developer",
    email: Annotated[
        str | None, typer.Option(help="A verified e-mail address.", show_default=False)
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, help="How long the token is valid.")] = 60,
    folder: Annotated[
        Path, typer.Option("--key", help="The directory of the key; made if there is none.")
    ] = Path(".storecast"),
    as_json: Json = False,
) -> None:
    """A development token for the API, from a local key.

    Prints the token alone; with --json also the entry for STORECAST_API_ISSUERS.
    """
    from ray_job.cli.output import print_line
    from ray_job.operations import development_token

    key = development_token.open_key(folder)
    now = datetime.now(UTC)
    lifetime = timedelta(minutes=minutes)
    signed = key.token(
        subject=subject,
        email=email,
        audience=development_token.AUDIENCE,
        now=now,
        lifetime=lifetime,
    )
    if as_json:
        expires_at = (now + lifetime).isoformat()
        print_line(json.dumps({"token": signed, "expires_at": expires_at, "issuers": [key.issuer]}))
    else:
        print_line(signed)
