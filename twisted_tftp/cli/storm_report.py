"""Convert the report of a storm to text or to values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted_tftp.tools.storm import PERCENTILES, Report, Storm, percentiles


def describe_progress(storm: Storm) -> str:
    """Return one line about a storm that is running."""
    report = storm.report
    return (
        f"{report.machines} machines: {storm.running} booting, {len(report.boots)} booted,"
        f" {sum(report.failures.values())} failed;"
        f" {len(report.transferred)} files, {report.octets / 1e6:.0f} MB"
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as values for JSON, with times in seconds."""
    boots = [boot.seconds for boot in report.boots]
    files = report.seconds_by_file()
    return {
        "machines": report.machines,
        "booted": len(boots),
        "failures": dict(report.failures),
        "seconds": round(report.seconds, 6),
        "boots_a_second": round(len(boots) / report.seconds, 3) if report.seconds else 0,
        "boot": _percentiles(boots) if boots else None,
        "files": {
            name: {"count": len(seconds), **_percentiles(seconds)}
            for name, seconds in files.items()
        },
        "transfers": len(report.transferred),
        "missing": report.missing,
        "octets": report.octets,
        "octets_a_second": round(report.octets / report.seconds) if report.seconds else 0,
        "retransmissions": report.retransmissions,
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of some durations by name, such as `p50` and `max`."""
    names = [f"p{percent}" if percent < 100 else "max" for percent in PERCENTILES]
    values = [round(value, 6) for value in percentiles(seconds)]
    return dict(zip(names, values, strict=True))


def as_text(report: Report) -> str:
    """Return the report as text."""
    values = as_json(report)
    lines = [
        f"{values['booted']} of {report.machines} machines booted in {report.seconds:.2f} s"
        f" ({values['boots_a_second']:.1f} a second)",
        f"{values['transfers']} files, {report.octets / 1e6:.1f} MB"
        f" ({values['octets_a_second'] / 1e6:.1f} MB/s),"
        f" {report.missing} optional files not found, {report.retransmissions} retransmissions",
    ]
    lines += [f"failed: {count} x {reason}" for reason, count in report.failures.most_common()]
    rows = [("boot", values["booted"], values["boot"])] if report.boots else []
    rows += [(name, file["count"], file) for name, file in values["files"].items()]
    if rows:
        width = max(len(name) for name, _, _ in rows)
        lines.append(f"{'seconds':<{width}}  {'count':>7}      p50      p95      p99      max")
    for name, count, times in rows:
        columns = [f"{times[key]:9.3f}" for key in ("p50", "p95", "p99", "max")]
        lines.append(f"{name:<{width}}  {count:>7}{''.join(columns)}")
    return "\n".join(lines)
