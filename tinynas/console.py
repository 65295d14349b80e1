"""What a person sees while the main job runs: headings, progress, tables, and what to do next."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tinynas.budget import format_bytes
from tinynas.data.dataset import DataInfo
from tinynas.report.result_text import remarks, result_table, sources, timing_lines
from tinynas.search.candidates import Candidate
from tinynas.search.loop import Reason
from tinynas.shrink import Row, Shrunk
from tinynas.space.arch import Arch
from tinynas.space.spec import SearchSpace
from tinynas.target import Target

if TYPE_CHECKING:
    from tinynas.supernet.fit import Progress as FitProgress
    from tinynas.supernet.pace import TimePlan

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
            if p.ends_epoch and not self.out.is_terminal:
                seconds = time.monotonic() - started
                phase = f" ({p.phase})" if p.phase else ""
                self.say(
                    f"  epoch {p.epoch + 1} of {p.epochs}{phase}: loss {p.loss:.3f}, "
                    f"{seconds:.0f} s"
                )

        with self.progress("training") as advance:
            yield report

    @staticmethod
    def quietly() -> nullcontext[None]:
        """A context that does nothing."""
        return nullcontext()

    def budget(self, target: Target) -> None:
        """The limits that hold and the chip that they and the latency are for."""
        budget = target.budget
        self.say(f"  SRAM for the tensor arena  {format_bytes(budget.sram_bytes)}")
        self.say(f"  flash for the model file   {format_bytes(budget.flash_bytes)}")
        self.timing(target)

    def timing(self, target: Target) -> None:
        """The limits on latency and energy, and what is known of the latency."""
        for line in timing_lines(target):
            self.say(f"  {line}")

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
        size = count_text(space.subnets())
        self.say(
            f"  {space.name}: {len(shrunk.rows)} spaces of {size} subnets each; "
            f"{len(fitting)} hold subnets that fit"
        )
        if not self.quiet:
            self.out.print(spaces_table(shrunk))
        if shrunk.in_time is not None:
            self.say(f"  {in_time_text(shrunk.in_time)}")
        self.say(f"  {certainty(shrunk)}; 2_shrink.csv has every space")

    def planned(self, plan: TimePlan) -> None:
        """How much training fits into the time given."""
        self.say(
            f"  {plan.seconds:g} s are {plan.steps:,} steps, {plan.epochs:.1f} epochs, at the "
            "speed of this machine: the same seed may give another model elsewhere"
        )

    def trained(self, losses: Sequence[float], *, skipped: bool) -> None:
        """How the supernet's training ended."""
        if skipped:
            self.skipped(f"{len(losses)} epochs")
        else:
            self.say(f"  {len(losses)} epochs, loss in the last {losses[-1]:.3f}")

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


def in_time_text(share: float) -> str:
    """How much the limits on latency and energy leave of the chosen space."""
    part = f"{share:.1%}" if share >= 0.001 else f"{share:.1e}"
    return f"Of its subnets inside SRAM and flash {part} keep the limits on latency and energy"


def certainty(shrunk: Shrunk) -> str:
    """How far the counts can be believed."""
    if shrunk.method == "sampled":
        return "Shares are those of 1,000 random subnets per space"
    if all(row.count.exact for row in shrunk.rows):
        return "All counts are exact"
    return "Counts are estimates inside brackets, which the CSV file gives"


def count_text(subnets: float) -> str:
    """How many: in full below a million."""
    return f"{subnets:,.0f}" if subnets < 1e6 else f"{subnets:.3g}"


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
        count_text(count.estimate),
        f"{count.mean_macs / 1e6:.2f}",
        most,
    )
