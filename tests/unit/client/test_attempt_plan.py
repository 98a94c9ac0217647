"""Test in which order a client asks the addresses of a server, and for how long."""

from __future__ import annotations

import pytest

from twisted_tftp.client.attempt_plan import AttemptPlan
from twisted_tftp.errors import NoAnswer, PortUnreachable, ServerUnreachable, TFTPError

A, B, C = (("192.0.2.1", 69), ("192.0.2.2", 69), ("2001:db8::1", 69, 0, 0))


def run(plan: AttemptPlan, failure: TFTPError) -> list[tuple[str, float, float]]:
    """Let each attempt last its time and then fail; return host, begin and seconds of each."""
    now, attempts = 100.0, []
    plan.start(now)
    while True:
        attempts.append((plan.current.address[0], now - 100, plan.current.seconds))
        now += plan.current.seconds
        if not plan.advance(now, failure):
            return attempts


def test_single_address_is_asked_for_the_whole_patience() -> None:
    """A server with one address is asked without a break."""
    assert run(AttemptPlan([A], 25.0), NoAnswer()) == [("192.0.2.1", 0.0, 25.0)]


def test_all_addresses_are_asked_in_turn_and_again_within_the_patience() -> None:
    """Two addresses are asked for five seconds each, then again; the last attempt ends in time."""
    assert run(AttemptPlan([A, C], 12.5), NoAnswer()) == [
        ("192.0.2.1", 0.0, 5.0),
        ("2001:db8::1", 5.0, 5.0),
        ("192.0.2.1", 10.0, 2.5),
    ]
    assert run(AttemptPlan([A, C], 11.0), NoAnswer())[-1] == ("192.0.2.1", 10.0, 1.0)


def test_short_patience_is_shared_by_all_addresses() -> None:
    """No address uses up the patience before the last one was asked."""
    attempts = run(AttemptPlan([A, B, C], 3.0), NoAnswer())
    assert [(host, seconds) for host, _, seconds in attempts] == [
        ("192.0.2.1", 1.0),
        ("192.0.2.2", 1.0),
        ("2001:db8::1", 1.0),
    ]


@pytest.mark.parametrize("failure", [PortUnreachable(), ServerUnreachable()])
def test_address_that_fails_at_once_leaves_its_time_to_the_others(failure: TFTPError) -> None:
    """A slow server at one address is waited for though the port of another one is closed."""
    plan = AttemptPlan([A, B, C], 25.0)
    plan.start(0.0)
    assert plan.advance(1.0, failure)
    assert plan.current.seconds == 4.5
    assert plan.advance(1.0, failure)
    assert plan.current.seconds == 9.0
    assert plan.advance(10.0, NoAnswer())
    assert plan.current.seconds == pytest.approx(5 / 3)


def test_plan_ends_if_all_addresses_refuse() -> None:
    """If the ports of all addresses are closed, no other round begins."""
    plan = AttemptPlan([A, B], 25.0)
    plan.start(0.0)
    assert plan.has_other_address
    assert plan.advance(0.0, PortUnreachable())
    assert not plan.has_other_address
    assert not plan.advance(2.0, PortUnreachable())


def test_silent_address_is_asked_again_though_another_one_refuses() -> None:
    """If one address is silent and the other one refuses, another round begins."""
    plan = AttemptPlan([A, B], 25.0)
    plan.start(0.0)
    assert plan.advance(5.0, NoAnswer())
    assert plan.advance(7.0, PortUnreachable())
    assert plan.current.address == A


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (PortUnreachable(), PortUnreachable(), PortUnreachable),
        (PortUnreachable(), ServerUnreachable(), ServerUnreachable),
        (PortUnreachable("refused"), NoAnswer(), NoAnswer),
    ],
)
def test_failure_names_all_addresses_and_their_reasons(
    first: TFTPError, second: TFTPError, kind: type[TFTPError]
) -> None:
    """The exception has the class that all reasons have in common, and a reason per address."""
    plan = AttemptPlan([A, C], 25.0)
    plan.start(0.0)
    plan.advance(1.0, first)
    failure = plan.failure(second)
    assert type(failure) is kind
    assert failure.message == (
        f"no address of the server answers: 192.0.2.1 ({first.message}),"
        f" 2001:db8::1 ({second.message})"
    )


def test_reason_that_tells_more_is_kept() -> None:
    """Silence in a later round does not hide that the port of an address was closed."""
    plan = AttemptPlan([A, C], 25.0)
    plan.start(0.0)
    plan.advance(1.0, PortUnreachable("refused"))
    plan.advance(10.0, NoAnswer())
    assert plan.current.address == A
    expected = "192.0.2.1 (refused), 2001:db8::1 (the server does not answer)"
    for _ in range(2):  # the question changes nothing
        assert plan.failure(NoAnswer()).message.endswith(f": {expected}")
    assert "192.0.2.1 (no route)" in plan.failure(ServerUnreachable("no route")).message
    assert plan.failure(NoAnswer()).message.endswith(f": {expected}")


def test_failure_of_a_single_address_is_unchanged() -> None:
    """With one address the exception is that of its only attempt."""
    plan = AttemptPlan([A], 25.0)
    plan.start(0.0)
    last = NoAnswer()
    assert plan.failure(last) is last
