"""`python -m glassgpt` is `glassgpt`."""

from typing import NoReturn

from glassgpt.signals import heed


def main() -> NoReturn:
    heed()  # before whatever takes time to import
    from glassgpt.cli import main

    main()


if __name__ == "__main__":
    main()
