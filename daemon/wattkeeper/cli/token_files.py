"""Files that hold secrets, and the tokens file, which holds their hashes: written whole."""

import contextlib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wattkeeper.aggregator.access.tokens import Token, TokensError, entry, parse, read
from wattkeeper.cli.command import CommandError

_HEAD = """\
# Tokens of the Wattkeeper aggregator, as `wattkeeper token` adds them. Here are hashes, no tokens.
# The aggregator reads this file again when it changes; take an entry out, and its token is void.

"""
_BLOCK = re.compile(r"^(?=\[\[token\]\])", re.MULTILINE)


def listed(path: Path) -> list[Token]:
    """Return the tokens of a file.

    Raises:
        CommandError: it cannot be read, or is wrong.

    """
    try:
        return read(path)
    except TokensError as error:
        raise CommandError(str(error)) from error


def add(path: Path, tokens: Iterable[Token]) -> None:
    """Add tokens to a file, which is made if it is not there.

    Raises:
        CommandError: the file is wrong or cannot be written.

    """
    with _draft(path) as draft:
        text = _text(path) if path.exists() else _HEAD
        pieces = [text.rstrip("\n") + "\n", *map(entry, tokens)]
        _replace(path, draft, "\n".join(pieces))


def remove(path: Path, name: str) -> None:
    """Take a token out of a file; the rest stays as it is, with its comments.

    Raises:
        CommandError: there is no such token, or the file cannot be written.

    """
    with _draft(path) as draft:
        before = listed(path)
        if name not in {one.name for one in before}:
            raise CommandError(
                f"no token {name!r} is in {path}; `wattkeeper token list` names them"
            )
        kept = [block for block in _BLOCK.split(_text(path)) if not _is(block, name)]
        text = "".join(kept)
        with contextlib.suppress(TokensError):
            if parse(text) == [one for one in before if one.name != name]:
                _replace(path, draft, text)
                return
        raise CommandError(
            f"{path} is written in a way of its own; take {name!r} out with an editor"
        )


def _is(block: str, name: str) -> bool:
    try:
        (one,) = tomllib.loads(block).get("token", [{}])
    except (tomllib.TOMLDecodeError, ValueError):
        return False
    return bool(one.get("name") == name)


def _text(path: Path) -> str:
    listed(path)
    return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Give a new file beside one that is read and then written anew; one at a time has it.

    Raises:
        CommandError: another command has it, or it cannot be made.

    """
    draft = path.with_name(f"{path.name}.new")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise CommandError(
            f"another `wattkeeper token` is at work, or was ended: remove {draft} if none is"
        ) from error
    except OSError as error:
        raise CommandError(f"{draft} cannot be written ({error.strerror})") from error
    try:
        yield draft
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _replace(path: Path, draft: Path, text: str) -> None:
    """Write the file anew, with the rights that it had; hashes may be read by anybody."""
    parse(text)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            if path.exists():
                known = path.stat()
                os.fchmod(file.fileno(), known.st_mode & 0o777)
                os.fchown(file.fileno(), known.st_uid, known.st_gid)
        draft.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written ({error.strerror})") from error


def write_secrets(folder: Path, secrets: Sequence[tuple[str, str]]) -> None:
    """Write each secret into a file of its own, of mode 0600, in a folder.

    Raises:
        CommandError: a file cannot be written.

    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, secret in secrets:
            write_secret(folder / name, secret)
    except OSError as error:
        raise CommandError(f"--out: {folder} cannot be written ({error.strerror})") from error


def write_secret(path: Path, secret: str) -> None:
    """Write a secret into a file of mode 0600, in the place of one that was there before."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"{secret}\n")
    draft.replace(path)
