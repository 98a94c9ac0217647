"""Checks of a TFTP server over the network; `doctor` runs the checks of the modules `*_check*`.

Modules here import anything but `cli`, `tap` and `testing`.
"""

from __future__ import annotations

from twisted_tftp.tools.doctor.doctor import Doctor
from twisted_tftp.tools.doctor.finding import Finding, Verdict, worst_verdict
from twisted_tftp.tools.doctor.manual_transfer import Target

__all__ = ["Doctor", "Finding", "Target", "Verdict", "worst_verdict"]
