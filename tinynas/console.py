"""What a person sees while the main job runs: headings, progress, tables, and what to do next."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tinynas.budget import format_bytes
from tinynas.data.dataset import DataInfo
from tinynas.search.candidates import Candidate
from tinynas.search.loop import Reason
from tinynas.shrink import Row, Shrunk
from tinynas.space.arch import Arch
from tinynas.space.spec import SearchSpace
from tinynas.target import Target

if TYPE_CHECKING:
    from tinynas.supernet.fit import Progress as FitProgress

Advance = Callable[[int, int], None]

# What is worth saying of why a search ended.
ENDED: dict[Reason, str] = {
    "seconds": "; ended by time, so that the same seed may find others",
    "stagnation": "; ended as the front grew no more",
    "exhausted": "; these are all that fit",
}
# Rows of stage 1's table on screen: the best spaces; the CSV file has them all.
SHOWN_SPACES = 8


class Console:
    """Writes to stderr when stdout is kept for JSON; `quiet` keeps warnings and the result."""

    def __init__(self, *, quiet: bool = False, stderr: bool = False) -> None:
        self.out = RichConsole(stderr=stderr, highlight=False, soft_wrap=True)
        self.quiet = quiet

    def say(self, text: str, style: str = "") -> None:
        """A line of text, unless quiet."""
        if not self.quiet:
            self.out.print(Text(text, style=style))

    def warn(self, text: str) -> None:
        """A line that is shown even when quiet."""
        self.out.print(Text(text, style="yellow"))

    def stage(self, number: int, title: str) -> None:
        """The heading of a stage."""
        self.say(f"\n[{number}/7] {title}", "bold")

    def skipped(self, what: str) -> None:
        """A stage whose result an earlier process left."""
        self.say(f"  already done: {what}")

    @contextmanager
    def progress(self, what: str) -> Iterator[Advance]:
        """A progress bar with the time left; yields a function of (done, total)."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        hidden = self.quiet or not self.out.is_terminal
        with Progress(*columns, console=self.out, transient=True, disable=hidden) as bar:
            task = bar.add_task(what, total=None, note="")
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def epochs(self) -> Iterator[Callable[[FitProgress], None]]:
        """A progress bar over training steps; without a terminal, a line per epoch."""
        started = time.monotonic()

        def report(p: FitProgress) -> None:
            advance(p.step, p.steps)
            epoch_ends = p.step * p.epochs == (p.epoch + 1) * p.steps
            if epoch_ends and not self.out.is_terminal:
                seconds = time.monotonic() - started
                self.say(
                    f"  epoch {p.epoch + 1} of {p.epochs}: loss {p.loss:.3f}, {seconds:.0f} s"
                )

        with self.progress("training") as advance:
            yield report

    @staticmethod
    def quietly() -> nullcontext[None]:
        """A context that does nothing."""
        return nullcontext()

    def budget(self, target: Target) -> None:
        """The limits that hold and the chip that they and the latency are for."""
        budget, device = target.budget, target.device
        self.say(f"  SRAM for the tensor arena  {format_bytes(budget.sram_bytes)}")
        self.say(f"  flash for the model file   {format_bytes(budget.flash_bytes)}")
        if budget.latency_ms is not None:
            self.say(f"  latency                    {budget.latency_ms:g} ms, estimated")
        chip = f"{device.name} at {device.clock_hz.value / 1e6:g} MHz with {target.runtime}"
        why = "" if target.named else " (the default: no --mcu given, so it limits no memory)"
        self.say(f"  latency is estimated for   {chip}{why}")

    def data(self, info: DataInfo) -> None:
        """What the model is trained on."""
        counts = f"{info.train_count:,} training, {info.val_count:,} validation, "
        counts += f"{info.test_count:,} test images"
        self.say(
            f"  data                       {info.name}: {len(info.labels)} classes, {counts}, "
            f"{info.native_size} pixels"
        )
        for note in info.notes:
            self.say(f"    {note}")

    def shrunk(self, space: SearchSpace, shrunk: Shrunk) -> None:
        """The best spaces of stage 1, the chosen one marked."""
        fitting = [row for row in shrunk.rows if row.count.estimate > 0]
        self.say(
            f"  {space.name}: {len(shrunk.rows)} spaces of {space.subnets():.3g} subnets each; "
            f"{len(fitting)} hold subnets that fit"
        )
        if not self.quiet:
            self.out.print(spaces_table(shrunk))
        self.say(f"  {certainty(shrunk)}; 2_shrink.csv has every space")

    def trained(self, losses: Sequence[float], *, skipped: bool) -> None:
        """How the supernet's training ended."""
        if skipped:
            self.skipped(f"{len(losses)} epochs")
        else:
            self.say(f"  {len(losses)} epochs, last loss of the largest subnet {losses[-1]:.3f}")

    def searched(
        self, reason: Reason, scored: int, front: Sequence[Candidate], *, skipped: bool
    ) -> None:
        """How many subnets were scored, the front, most accurate first, in short, and the end."""
        best = front[0]
        line = (
            f"{scored} subnets scored on {best.count:,} validation images, "
            f"{len(front)} on the Pareto front, best accuracy {best.accuracy:.4f}"
        )
        line += ENDED.get(reason, "")
        if skipped:
            self.skipped(line)
        else:
            self.say(f"  {line}")

    def winner(self, winner: Candidate, arch: Arch) -> None:
        """The candidate that is taken."""
        self.say(
            f"  taken: validation accuracy {winner.accuracy:.4f} with the supernet's weights, "
            f"{winner.macs / 1e6:.2f} M MACs, depths {'-'.join(map(str, arch.depths))}"
        )

    def exported(self, file_bytes: int) -> None:
        """The size of the model file."""
        self.say(f"  6_model.tflite: {format_bytes(file_bytes)}")

    def result(self, report: dict[str, Any], seconds: dict[str, float], path: Path) -> None:
        """The final table, where everything is, and what to type next."""
        self.out.print()
        self.out.print(result_table(report))
        for line in (*sources(report), "", *remarks(report)):
            self.out.print(Text(line))
        spent = ", ".join(f"{stage} {s:.0f} s" for stage, s in seconds.items())
        self.say(f"Time: {spent}")
        self.out.print(Text(f"Run directory: {path}", style="bold"))
        model = shlex.quote(str(path / "6_model.tflite"))
        budget = report["budget"]
        self.say(
            f"Read {path / '6_model.md'} for what your firmware needs. Check the model again:"
        )
        chip = f"--mcu {report['mcu']} " if report["mcu_named"] else ""
        self.say(
            f"  python -m tinynas verify {model} {chip}--runtime {report['runtime']} "
            f"--sram {budget['sram_bytes']} --flash {budget['flash_bytes']}"
        )


def certainty(shrunk: Shrunk) -> str:
    """How far the counts can be believed."""
    if shrunk.method == "sampled":
        return "Shares are those of 1,000 random subnets per space"
    if all(row.count.exact for row in shrunk.rows):
        return "All counts are exact"
    return "Counts are estimates inside brackets, which the CSV file gives"


def spaces_table(shrunk: Shrunk, shown: int = SHOWN_SPACES) -> Table:
    """Spaces by mean MACs of their fitting subnets, the chosen one marked."""
    patched = any(row.patches > 1 for row in shrunk.rows)
    table = Table(box=None, pad_edge=True, padding=(0, 2, 0, 0))
    names = ("", "width", "pixels", *(["patches"] if patched else []), "share that fits")
    for name in (*names, "subnets that fit", "mean M MACs", "max M MACs"):
        table.add_column(name, justify="right")
    by_macs = sorted(shrunk.rows, key=lambda row: -row.count.mean_macs)
    rows = [shrunk.chosen, *(row for row in by_macs if row is not shrunk.chosen)]
    for row in rows[:shown]:
        place = [f"{row.width:g}", str(row.resolution)]
        if patched:
            place.append(f"{row.patches}x{row.patches}" if row.patches > 1 else "-")
        table.add_row("->" if row is shrunk.chosen else "", *place, *_count_cells(row))
    return table


def _count_cells(row: Row) -> tuple[str, ...]:
    count = row.count
    if not count.estimate:
        return ("0", "0", "-", "-")
    most = f"{count.max_macs / 1e6:.2f}"
    if count.max_macs_possible > 1.005 * count.max_macs:
        most += f" to {count.max_macs_possible / 1e6:.2f}"
    share = f"{row.share:.1%}" if row.share >= 0.001 else f"{row.share:.1e}"
    return (
        share,
        f"{count.estimate:.3g}",
        f"{count.mean_macs / 1e6:.2f}",
        most,
    )


def _bytes(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes:,}"


def result_table(report: dict[str, Any]) -> Table:
    """Predicted beside measured, each in a column of its own, with the limit."""
    predicted, measured, budget = report["predicted"], report["measured"], report["budget"]
    table = Table(title="Result", title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("")
    for name in ("predicted", "measured", "limit"):
        table.add_column(name, justify="right")
    table.add_row(
        "SRAM, arena, bytes (1)",
        _bytes(predicted["sram_bytes"]),
        "-",
        _bytes(budget["sram_bytes"]),
    )
    head = _bytes(predicted["sram_head_bytes"]), _bytes(measured["sram_head_bytes"])
    table.add_row("  its head, bytes (2)", *head, "")
    file = _bytes(predicted["flash_bytes"]), _bytes(measured["file_bytes"])
    table.add_row("flash, file, bytes (3)", *file, _bytes(budget["flash_bytes"]))
    limit = "" if budget["latency_ms"] is None else f"{budget['latency_ms']:g}"
    latency = f"{report['latency_provenance']} {predicted['latency_ms']:.1f}"
    table.add_row("latency, ms (4)", latency, "-", limit)
    table.add_row("MACs", f"{predicted['macs']:,}", "-", "")
    table.add_row("accuracy int8 (5)", "-", f"{measured['accuracy_int8']:.4f}", "")
    table.add_row("accuracy float (6)", "-", f"{measured['accuracy_float']:.4f}", "")
    return table


def sources(report: dict[str, Any]) -> list[str]:
    """Where the numbers of the table come from, by their marks."""
    runtime = report["executed_by"]
    where = runtime or "integer simulation: there is no runtime for this host"
    return [
        f"(1) to reserve on the chip: memory plan, {report['runtime']} scratch buffers and TFLM's "
        "32-bit records, by rule",
        f"(2) activations with reference kernels; measured by {runtime or 'nothing'}",
        "(3) computed from the graph; measured is the length of 6_model.tflite",
        f"(4) {report['mcu']}, cycles per operator of latency_models/{report['mcu']}.yaml",
        f"(5) {report['test_images']:,} test images; {where}",
        "(6) the same images before quantisation, PyTorch",
    ]


def remarks(report: dict[str, Any]) -> list[str]:
    """What the table leaves open, in sentences."""
    facts = report["firmware"]
    lines = []
    if report["bit_exact"] is not None:
        same = "equal" if report["bit_exact"] else "DIFFER from"
        lines.append(f"All int8 outputs of the runtime {same} those of the integer simulation.")
    else:
        lines.append("The runtime has not executed this model: it is not installed here.")
    lines.append(
        f"Firmware: reserve an arena of {facts['arena_bytes']:,} bytes, register "
        f"{', '.join(facts['operators'])}; input {facts['input']['shape']} int8 = pixel - 128."
    )
    if report["left"]:
        left = report["left"]
        lines.append(
            f"Left of {report['mcu']} for the application: {format_bytes(left['sram_bytes'])} of "
            f"SRAM and {format_bytes(left['flash_bytes'])} of flash."
        )
    return lines


def check_lines(result: dict[str, Any]) -> list[str]:
    """What `tinynas verify` found, line by line."""
    predicted, measured, budget = result["predicted"], result["measured"], result["budget"]
    safety = result["plan_safety"]
    verdict = "inside the budget" if result["holds"] else "NOT inside the budget"
    if safety and not safety["safe"]:
        verdict = f"its memory plan is NOT known to be safe with {result['runtime']}"
    lines = [f"{result['model']}: {verdict}"]
    lines.append(
        f"  flash  file {format_bytes(result['file_bytes'])}, "
        f"limit {format_bytes(budget['flash_bytes'])}"
    )
    if predicted:
        lines.append(
            f"  SRAM   predicted arena {format_bytes(predicted['sram_bytes'])}, "
            f"limit {format_bytes(budget['sram_bytes'])}"
        )
        lines.append(f"         predicted head {format_bytes(predicted['sram_head_bytes'])}")
    if measured and measured["sram_head_bytes"] is not None:
        lines.append(
            f"         measured head {format_bytes(measured['sram_head_bytes'])}, by "
            f"{result['executed_by']}"
        )
    return lines + [f"  {why}" for why in (*result["why"], *(safety["words"] if safety else ()))]
