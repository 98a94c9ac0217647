"""The command `txtftp get`: which files it fetches, and where it stores them."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any

from twisted_tftp.cli.job_runner import Job, JobRunner, check_targets
from twisted_tftp.cli.local_files import (
    STANDARD_STREAM,
    open_standard_output,
    open_target,
    target_path,
)
from twisted_tftp.cli.results import ResultPrinter
from twisted_tftp.cli.transfer_options import is_url, make_client, make_client_of_url
from twisted_tftp.client.client import TFTPClient

#: The usage text of the command.
USAGE = (
    "%(prog)s [options] HOST FILE [LOCAL|-]\n"
    "       %(prog)s [options] tftp://HOST[:PORT]/FILE [LOCAL|-]\n"
    "       %(prog)s [options] -j N HOST FILE..."
)


def run(options: argparse.Namespace, reactor: Any) -> int:
    """Fetch the files, and return the exit status.

    @raise ValueError: the names are not valid arguments.
    @raise OSError: a local file can't be opened.
    """
    jobs = _jobs(options, reactor)
    check_targets((os.path.realpath(job.local), job.local) for job in jobs)
    # If standard output gets the file, it gets nothing else.
    is_output_used = options.names[-1] == STANDARD_STREAM
    printer = ResultPrinter(options, sys.stderr if is_output_used else sys.stdout)
    return JobRunner(options, jobs, printer, reactor).run()


def _jobs(options: argparse.Namespace, reactor: Any) -> list[Job]:
    first, *rest = options.names
    if is_url(first):
        return _url_jobs(options, reactor)
    if not rest:
        raise ValueError("give a HOST and a FILE, or a URL")
    client = make_client(options, reactor, first, options.port)
    if options.jobs is not None:
        return [_job(reactor, client, filename) for filename in rest]
    if len(rest) > 2:
        raise ValueError("give one FILE and one LOCAL, or -j N and several FILEs")
    filename, *local = rest
    return [_job(reactor, client, filename, *local)]


def _url_jobs(options: argparse.Namespace, reactor: Any) -> list[Job]:
    if options.jobs is not None:
        return [_job(reactor, *make_client_of_url(options, reactor, url)) for url in options.names]
    url, *local = options.names
    if len(local) > 1:
        raise ValueError("give one URL and one LOCAL, or -j N and several URLs")
    return [_job(reactor, *make_client_of_url(options, reactor, url), *local)]


def _job(reactor: Any, client: TFTPClient, filename: str, local: str | None = None) -> Job:
    path = target_path(filename, local)
    if local == STANDARD_STREAM:
        target = open_standard_output(reactor)
    else:
        target = open_target(reactor, path)
    return Job(client, filename, path, partial(client.get, filename, target))
