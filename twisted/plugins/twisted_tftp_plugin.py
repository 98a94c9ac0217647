"""Make the command `tftp` known to twistd and twist."""

from twisted.application.service import ServiceMaker

tftp = ServiceMaker(
    "TFTP server",
    "twisted_tftp.tap",
    "A TFTP server for booting machines over the network",
    "tftp",
)
