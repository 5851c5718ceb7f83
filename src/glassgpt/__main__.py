"""`python -m glassgpt` is `glassgpt`."""

from glassgpt.cli import main

if __name__ == "__main__":
    main()
