"""Tell twistd and twist of the `tftp` command."""

from twisted.application.service import ServiceMaker

tftp = ServiceMaker(
    "TFTP server",
    "twisted_tftp.tap",
    "A TFTP server for booting machines over the network",
    "tftp",
)
