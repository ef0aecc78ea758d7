"""The end of the demo: each job with what was found, and the lines with which people go on by hand."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console

from . import by_hand
from .check import Found
from .scenario import Planned


def show_summary(
    console: Console, plan: Sequence[Planned], found: Found, faults: Mapping[str, Sequence[str]], *, seconds: float
) -> None:
    """Show a line for each job, and the verdict."""
    console.print("\nChecked against the service:")
    names = [planned.name for planned in plan]
    for planned in plan:
        if planned.name not in faults:
            console.print(f"  [green]✓[/] {planned.name:22} {_describe(planned, found)}")
    for name, wrong in faults.items():
        console.print(f"  [red]✗[/] {name:22} {'; '.join(wrong)}", markup=True)
    if faults:
        console.print(f"{len(faults)} of {len(names)} jobs are not as they should be.")
        return
    deliveries = len(found.deliveries)
    console.print(f"All {len(names)} jobs are as they should be. {deliveries} deliveries, none early. {seconds:.1f} s.")


def show_lines(console: Console) -> None:
    """Show how to do it by hand."""
    console.print(f"\nBy hand: start `{by_hand.START}` in another terminal, then\n", markup=False)
    print(by_hand.LINES, end="")


def _describe(planned: Planned, found: Found) -> str:
    ending = planned.ending
    job_id = found.jobs[planned.name]["id"]
    if ending.told_to_stop:
        return f"{ending.status} while executing; its worker was told to stop"
    words = [ending.status]
    if ending.errors:
        counted = (error if count == 1 else f"{count} × {error}" for error, count in Counter(ending.errors).items())
        words.append(f"on attempt {ending.attempt}, errors: {', '.join(counted)}")
    if planned.duplicate:
        words.append("once, though enqueued twice")
    if planned.opens_in_seconds is not None:
        words.append(f"on attempt {ending.attempt}, though snoozed before")
    if ending.no_later_than:
        words.append("before those of lower priority")
    if "delay" in planned.members:
        late = min(delivery.late_seconds for delivery in found.deliveries if delivery.job_id == job_id)
        words.append(f"{late * 1_000:.1f} ms after its time")
    return " ".join(words)
