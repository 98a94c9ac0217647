"""A TFTP server and client on Twisted, for booting machines over the network.

The types to know:

 - L{twisted_tftp.server.TFTPService}: the server as a Twisted service.
 - L{twisted_tftp.server.TFTPServer}: the protocol of one request port.
 - L{twisted_tftp.client.TFTPClient}: transfers with one server.
 - L{twisted_tftp.interfaces.IFileBackend}: a store of files; implement it to serve other files.
   L{twisted_tftp.backends} has L{FilesystemBackend<twisted_tftp.backends.FilesystemBackend>},
   L{MemoryBackend<twisted_tftp.backends.MemoryBackend>} and
   L{ReadOnlyBackend<twisted_tftp.backends.ReadOnlyBackend>}.
 - L{twisted_tftp.policy.Policy}: the limits, timeouts and access rules of a server.
 - L{twisted_tftp.errors.TFTPError}: why a transfer failed, with its TFTP code.
"""

__version__ = "0.1.0"
