"""Plot the report of a storm with matplotlib, if it is installed."""

from __future__ import annotations

from typing import Any

from twisted_tftp.tools.storm import Report


def is_plotting_possible() -> bool:
    """Return whether matplotlib can be imported."""
    try:
        import matplotlib  # noqa: F401 - the import itself can fail
    except ImportError:
        return False
    return True


def plot(report: Report, path: str) -> None:
    """Plot the durations of boots and files, and the progress of the storm, as SVG or PNG.

    @param path: the file to write; its name says which format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (durations, progress) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _plot_durations(report, durations)
    _plot_progress(report, progress)
    for axes in (durations, progress):
        axes.grid(color="#eeeeee")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    pyplot.close(figure)


def _plot_durations(report: Report, axes: Any) -> None:
    """Plot, for boots and for each file, how many percent took at most each duration."""
    boots = [boot.seconds for boot in report.boots]
    for name, seconds in [("boot", boots), *report.seconds_by_file().items()]:
        if not seconds:
            continue
        count = len(seconds)
        percent = [100 * (rank + 1) / count for rank in range(count)]
        width = 2.2 if name == "boot" else 1.2
        axes.step(sorted(seconds), percent, where="post", label=name, lw=width)
    axes.set(xlabel="seconds", ylabel="% done", title="durations", ylim=(0, 102))
    if report.boots:
        axes.set_xscale("log")
        axes.legend(frameon=False, fontsize=8)


def _plot_progress(report: Report, axes: Any) -> None:
    """Plot how many machines were switched on and have booted at each moment of the storm."""
    starts = sorted(boot.ended_at - boot.seconds for boot in report.boots)
    ends = sorted(boot.ended_at for boot in report.boots)
    axes.step(starts, range(1, len(starts) + 1), where="post", label="switched on")
    axes.step(ends, range(1, len(ends) + 1), where="post", label="booted", lw=2.2)
    axes.set(xlabel="seconds", ylabel="machines", title="progress of the storm")
    axes.legend(frameon=False, fontsize=8)
