"""Get the results of Deferreds that fire without a running reactor."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def results_of(deferred: Deferred[Any]) -> list[Any]:
    """Return a list to which the result of `deferred` is added when it fires."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


def value(result: Any) -> Any:
    """Return `result`; if it is a Deferred that has fired, return or raise its result."""
    if not isinstance(result, Deferred):
        return result
    results = results_of(result)
    assert results, "the Deferred has not fired"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]
