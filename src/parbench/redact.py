"""Keys and passwords are taken out of everything that is written for others to read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"
# Names of fields and of environment variables; `image_key` and `max_new_tokens` are none.
_FIELD = re.compile(
    r"(^|[_.-])((api|access|secret|private|auth|wandb|hf|hub)[_-]?key|token|secret|passwd|password|credentials?|auth)$",
    re.I,
)
_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWD|PASSWORD|CREDENTIALS?)$", re.I)
# A shorter one may be an everyday word.
_SHORTEST = 8
_KNOWN = re.compile(r"\b(hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|sk-[\w-]{16,}|wandb_v\d_\w{16,}|AKIA[0-9A-Z]{16})")
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def redacted(value: Any, name: str = "") -> Any:
    """A configuration without its secrets.

    A text is hidden if its field is called token, password, api_key or the like; in every other text, what looks like a key, what
    stands before the ``@`` of an address, and what an environment variable called ``..._KEY``, ``..._TOKEN`` and so on holds.
    """
    if isinstance(value, Mapping):
        return {key: redacted(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner, name) for inner in value]
    if not isinstance(value, str) or not value:
        return value
    return HIDDEN if _FIELD.search(name) else without_secrets(value)


def without_secrets(text: str) -> str:
    """A text in which keys are hidden."""
    secrets = {value for name, value in os.environ.items() if _VARIABLE.search(name) and len(value) >= _SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _IN_ADDRESS.sub(HIDDEN, _KNOWN.sub(HIDDEN, text))
