"""``python -m qarnotfs``: the command line."""

from qarnotfs.cli import main

if __name__ == "__main__":
    main()
