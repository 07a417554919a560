"""The plots beside the page, as PNG and, for the README, as SVG. It needs ``.[bench]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.compared import ratio, seconds
from bench.growth import GROWING, Point, points
from bench.peers import OURS, PEERS
from bench.results import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(
    zip(
        (OURS, *PEERS),
        ("#0b6e4f", "#d1495b", "#3066be", "#edae49", "#777777", "#8d5a97"),
        strict=True,
    )
)
PANELS: dict[str, Callable[[Point], float | None]] = {
    "seconds": lambda point: point.sec,
    "peak RSS, MiB": lambda point: point.peak_mib,
    "requests": lambda point: point.requests,
}


def draw(found: Mapping[float, Rows], results: Path) -> list[Path]:
    """All that there are figures for, named after the results. The paths of the PNGs."""
    made = []
    for rtt_ms, rows in found.items():
        if figure := _ratios(rtt_ms, rows):
            made.append(_save(figure, results, f"{rtt_ms:g}ms"))
        for family, (unit, _) in GROWING.items():
            if figure := _growth(f"{family}, {rtt_ms:g} ms", rows, family, unit):
                made.append(_save(figure, results, f"{family.replace(' ', '-')}-{rtt_ms:g}ms"))
    return made


def _save(figure: Figure, results: Path, name: str) -> Path:
    import matplotlib as mpl

    path = results.with_name(f"{results.stem}-{name}.png")
    # The same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "qarnotfs", "svg.fonttype": "none"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path, dpi=120)
    return path


def _figure(width: float, height: float, panels: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure as New

    figure = New(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, panels, number + 1) for number in range(panels)]


def _ratios(rtt_ms: float, rows: Rows) -> Figure | None:
    """How many times as long each peer takes; an arrow where it was stopped."""
    ahead = {
        (name, peer): times
        for name, row in rows.items()
        for peer in PEERS
        if (times := ratio(seconds(row.clients.get(peer, ())), seconds(row.clients.get(OURS, ()))))
    }
    if not ahead:
        return None
    names = list(dict.fromkeys(name for name, _ in ahead))[::-1]
    figure, (axes,) = _figure(10, 1.5 + 0.22 * len(names), 1)
    for peer in dict.fromkeys(peer for _, peer in ahead):
        told = [(names.index(name), times) for (name, who), times in ahead.items() if who == peer]
        exact = [(times.sec, y) for y, times in told if times.exact]
        stopped = [(times.sec, y) for y, times in told if not times.exact]
        if exact:
            axes.plot(*_columns(exact), "o", color=COLOURS[peer], label=peer)
        if stopped:
            axes.plot(*_columns(stopped), ">", color=COLOURS[peer], label=f"{peer}, stopped there")
    axes.axvline(1, color=COLOURS[OURS])
    axes.set(xscale="log", title=f"times as long as {OURS} takes, {rtt_ms:g} ms round trip")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(-1, len(names))
    axes.grid(axis="both", alpha=0.3)
    axes.legend()
    return figure


def _columns(pairs: list[tuple[float, int]]) -> tuple[list[float], list[int]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _growth(title: str, rows: Rows, family: str, unit: str) -> Figure | None:
    known = {client: points(rows, family, client) for client in (OURS, *PEERS)}
    if len(known[OURS]) < 2:
        return None
    figure, panels = _figure(12, 4, len(PANELS))
    for axes, (name, of) in zip(panels, PANELS.items(), strict=True):
        for client, some in known.items():
            drawn = [(each.amount, value) for each in some if (value := of(each)) is not None]
            if drawn:
                x, y = zip(*drawn, strict=True)
                axes.plot(x, y, "o-", color=COLOURS[client], label=client)
        axes.set(xscale="log", xlabel=unit, title=name)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.suptitle(title)
    return figure
