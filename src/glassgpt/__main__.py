"""`python -m glassgpt` is `glassgpt`."""

from typing import NoReturn

from glassgpt.signals import heed, leave


def main() -> NoReturn:
    heed()  # before whatever takes time to import
    try:
        from glassgpt.cli import main

        main()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 1)


if __name__ == "__main__":
    main()
