"""A bearer token in a file, read whenever it is shown."""

from pathlib import Path

from wattkeeper.flags import ConfigError


def read_token(file: Path, name: str) -> str:
    """Return the token in a file; `name` is its setting. Blocks.

    Raises:
        ConfigError: the file cannot be read, or holds no token. What it holds is not told.

    """
    try:
        token = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"{name}: {file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise ConfigError(f"{name}: {file} holds no token; write one into it, in one line")
    return token
