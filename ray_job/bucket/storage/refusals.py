"""What a server says in the errors of Google's client, of Arrow and of delta-rs."""

from __future__ import annotations

import re

from ray_job.bucket.errors import AccessRefusedError, StorageError

_SAID = (
    re.compile(r'\{.*"message"\s*:\s*"((?:[^"\\]|\\.)*)"', re.DOTALL),
    re.compile(r"<Message>(.*?)</Message>", re.DOTALL),
    re.compile(r"with a last message of (.*?)\.? error_info=", re.DOTALL),
    re.compile(r"^\d{3} [A-Z]+ \S+: (.+)", re.DOTALL),
)
"""Where a server's sentence is in the errors of the JSON API, the XML API, Arrow's and Google's
client."""
_REFUSED = re.compile(r"^403 |\b403 Forbidden|http_status_code=403|PERMISSION_DENIED")


_CAUSE = re.compile(r"\s*\n\s*(?:\x1b\[\d+m)*↳(?:\x1b\[\d+m)*\s*")
"""delta-rs writes each cause of an error on a line of its own, after a coloured arrow."""


_REQUEST = re.compile(r"Generic GCS error: (?:.* - )?(?:.*HTTP error: )?(.+)", re.DOTALL)
"""delta-rs names the address, the time and the repetitions of a request before what went wrong."""
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z ]+)")


def sentence_of(error: BaseException) -> str:
    """An error of delta-rs with its causes, on one line."""
    message = _CAUSE.sub(": ", str(error).strip())
    if request := _REQUEST.search(message):
        status = _STATUS.search(message)
        message = (
            f"the storage answers {status[1].strip()}, also when it is asked again"
            if status
            else f"the storage does not answer: {request[1]}"
        )
    return message.splitlines()[0] if message else type(error).__name__


def ended_early(error: BaseException) -> bool:
    """Whether an answer to delta-rs ended early: the one failure that it does not try again."""
    return "response body error" in str(error)


def is_refusal(error: BaseException) -> bool:
    """Whether an error of any client says that access is refused."""
    return _REFUSED.search(str(error)) is not None


def reason_of(error: BaseException) -> str:
    """What the server says, without the request and the form in which a client reports it."""
    text = str(error).strip()
    said = next((match[1] for pattern in _SAID if (match := pattern.search(text))), text)
    return (said.strip().splitlines() or [type(error).__name__])[0]


def storage_error(key: str, error: BaseException, sentence: str = "") -> StorageError:
    """The error of this project for one of a client; `sentence` is used unless access is refused.

    Without it the server's own sentence is used, and its status where the client says it.
    """
    if is_refusal(error):
        return AccessRefusedError(
            f"{key}: the storage refuses access (403): {reason_of(error).rstrip('.')}; give the"
            " account that runs this the rights, see k8s/SETUP.md"
        )
    code = getattr(error, "code", None)
    status = f"the storage answers {int(code)}: " if isinstance(code, int) else ""
    return StorageError(f"{key}: {sentence or status + reason_of(error)}")
