"""Tests of the modules in `twisted_tftp/backends/filesystem/`."""
