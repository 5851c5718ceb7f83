"""`python -m glassgpt` is `glassgpt`."""

from typing import NoReturn

from glassgpt.signals import heed, leave_from_now_on


def main() -> NoReturn:
    heed()  # before whatever takes time to import
    try:
        from glassgpt.cli import main

        main()
    finally:
        leave_from_now_on()


if __name__ == "__main__":
    main()
