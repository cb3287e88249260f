"""Where a server is, and the key to it. Both come from the environment; a key is never a setting or an argument."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from biasgym.errors import BiasGymError

_OPENAI = "https://api.openai.com/v1"


def shown(url: str) -> str:
    """An address for messages: without user, password and query."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    address, _, query = rest.partition("?")
    return f"{scheme}{mark}{'...' if '@' in query else address.rpartition('@')[2]}"  # that "?" may be a password's


def access(url: str | None = None, *, role: str = "judge") -> tuple[str, str]:
    """Address and key of the server.

    Args:
        url: Its address; else BIASGYM_<ROLE>_URL, else OpenAI's.
        role: What the model is asked for: `judge` or `writer`.

    Returns:
        Address and key. The key is BIASGYM_<ROLE>_KEY; only OpenAI is ever sent OPENAI_API_KEY.

    Raises:
        BiasGymError: The address is none, or OpenAI is to be asked without a key.
    """
    name = f"BIASGYM_{role.upper()}"
    address = (url or os.environ.get(f"{name}_URL") or _OPENAI).rstrip("/")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # brackets or a port that are none
        usable = False
    if not usable:
        raise BiasGymError("not an address", where=shown(address), hint="such as http://127.0.0.1:8000/v1")
    if url and (parts.username or parts.password or parts.query):
        raise BiasGymError(
            "the address holds a user, a password or a query, and settings are written into reports",
            where=shown(address),
            hint=f"put it into {name}_URL, and a key into {name}_KEY",
        )
    key = os.environ.get(f"{name}_KEY")
    if key and not (key.isascii() and key.isprintable()):
        raise BiasGymError("the key has characters that no header can carry", where=f"{name}_KEY")
    if parts.hostname == urlsplit(_OPENAI).hostname:
        key = key or os.environ.get("OPENAI_API_KEY")
        if not key:
            raise BiasGymError(
                f"there is no key for the {role}",
                where=shown(address),
                hint=f"set {name}_KEY, or {name}_URL for a server of your own",
            )
    return address, key or "none"
