"""Runs one function and is gone: `python -m deploy.call verifier.app:run_worker`."""

from __future__ import annotations

import sys
from pkgutil import resolve_name

if __name__ == "__main__":
    resolve_name(sys.argv[1])()
