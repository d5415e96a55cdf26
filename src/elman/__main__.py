"""``python -m elman`` is the ``elman`` command."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, whose json.py or numpy.py would be taken for the libraries

    from elman.cli import main

    raise SystemExit(main())
