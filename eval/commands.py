"""What the commands of this folder have in common."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def said_in_a_sentence(command: str) -> Iterator[None]:
    """A name, a file or a package that cannot be used ends the command with its message, without a traceback.

    Args:
        command: As it is called after `python -m`.
    """
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"{command}: {error}") from error
