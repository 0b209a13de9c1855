"""Which files of a run folder make a bank that can be shared: what was trained and measured, not what is drawn from it."""

from collections.abc import Iterator

from core.errors import RunFolderError
from orchestrator.runs.commands import supsup_command
from orchestrator.runs.forgotten import not_gone
from orchestrator.runs.made_from import verify_derived
from orchestrator.runs.run import Run
from storage.layout import RunLayout
from storage.locations import Location, listed
from storage.mask_facts import MaskFacts
from storage.verify import verify_masks


def verified_bank(run: Run) -> MaskFacts:
    """Return the facts of a run's masks after verifying every byte. Raises RunFolderError if something is wrong."""
    findings = verify_masks(run.store)
    problems = [*findings.problems, *not_gone(run, findings.facts.files)]
    if problems:
        more = supsup_command("verify", run.layout.root, config=run.config)
        raise RunFolderError(f"{problems[0].message}; `{more}` says more")
    if not findings.facts.files and not listed(run.layout.memories, "*.parquet"):
        raise RunFolderError(f"{run.layout.root} has no masks, expected at least one")
    return findings.facts


def bank_files(run: Run, facts: MaskFacts) -> dict[str, Location]:
    """Return the files of a bank by their path in the run folder, sorted; tables of other masks are left out."""
    layout = run.layout
    stale = {problem.path for problem in verify_derived(run, facts, quick=True)}
    found = [path for path in _candidates(layout, facts) if path not in stale]
    return dict(sorted((str(path).removeprefix(f"{layout.root}/"), path) for path in found))


def _candidates(layout: RunLayout, facts: MaskFacts) -> Iterator[Location]:
    yield layout.run_file
    yield from (layout.masks / name for name in facts.files.names)
    yield from (layout.tombstone(task) for task in facts.files.forgotten)
    yield from listed(layout.evaluations, "*.parquet")
    yield from listed(layout.memories, "*.parquet")
    for path in (layout.summary, layout.decisions, layout.card, layout.signature):
        if path.is_file():
            yield path
