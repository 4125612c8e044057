"""What a node makes up for itself when the user gives nothing: an API key and a secret, kept beside the log.

They are kept so that a restart changes nothing: the page's address stays good, and positions that clients hold stay
valid. The file is for its owner's eyes alone (mode 0600). Nodes that share a log need one secret between them, which is
then configured and not made here.
"""

import os
import secrets
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from fanout.auth.keys import generate_key
from fanout.errors import ConfigError

__all__ = ["Credentials", "load_or_create"]

FILE = "credentials.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`key` is an API key as text, with every capability; `secret` seals positions and connection keys."""

    key: str
    secret: str


def load_or_create(directory: Path) -> Credentials:
    """The directory's credentials, made at the first call, whichever process comes first.

    Raises ConfigError when the directory cannot be written or the file cannot be understood.
    """
    path = directory / FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        text = path.read_bytes()
    except OSError as problem:
        raise ConfigError(
            f"data: '{directory}' cannot be used ({problem.strerror}); give a directory that you may write to"
        ) from problem
    try:
        made = Credentials(**orjson.loads(text))
        if not (isinstance(made.key, str) and isinstance(made.secret, str)):
            raise TypeError("not text")
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"'{path}' is damaged; delete it and another is made, with another key") from problem
    return made


def _create(path: Path) -> None:
    """Writes the file whole and then names it, so that no other process ever reads half of it."""
    made = Credentials(generate_key(), secrets.token_hex(32))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(asdict(made), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first: its credentials count
    finally:
        os.unlink(temporary)
