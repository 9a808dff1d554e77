"""``python -m pearray`` is the command line."""

from .cli import main

main()
