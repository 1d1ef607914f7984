"""`owui-budget check`: is everything set up so that limits hold?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from owui_budget_sync.checks.examination import examine
from owui_budget_sync.checks.findings import Finding, Severity
from owui_budget_sync.cli import shell

commands = typer.Typer()


@commands.command()
def check(
    *,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Also make one real call of this model, of a single token, as sync's admin."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what is well, too.")] = False,
    as_json: shell.AsJson = False,
) -> None:
    """Check settings, database, both programs and the way between them, and say how to mend what is amiss.

    Ends with 2 if anything needs attention. What no API tells (whether Open WebUI signs who is calling), --probe
    finds out.
    """
    with shell.progress() as say:
        findings = shell.run(examine(say, probe))
    if as_json:
        shell.print_json({"findings": [asdict(each) for each in findings], "counts": _counts(findings)})
    else:
        _print(findings, verbose=verbose)
    if any(each.needs_attention for each in findings):
        raise typer.Exit(shell.Exit.FINDINGS)


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    tally = Counter(each.severity for each in findings)
    return {severity.value: tally[severity] for severity in Severity}


_SIGNS = {Severity.ERROR: "✗", Severity.WARNING: "!", Severity.SKIPPED: "?", Severity.OK: "✓"}


def _print(findings: Sequence[Finding], *, verbose: bool) -> None:
    for finding in findings:
        if finding.severity is Severity.OK and not verbose:
            continue
        shell.line(f"{_SIGNS[finding.severity]} {finding.severity} in {finding.area}: {shell.clean(finding.what)}")
        if finding.why:
            shell.line(f"    why: {shell.clean(finding.why)}")
        if finding.fix:
            shell.line(f"    fix: {shell.clean(finding.fix)}")
    counts = _counts(findings)
    shell.line(
        f"{counts['ok']} well, {counts['warning']} warnings, {counts['error']} errors,"
        f" {counts['skipped']} could not be looked at"
    )
