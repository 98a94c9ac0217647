"""Run the command `txtftp`, for `python -m twisted_tftp`."""

from __future__ import annotations

import sys

from twisted_tftp.cli.main import main

sys.exit(main())
