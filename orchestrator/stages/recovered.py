"""HopSupSup's evaluation: the memory from the masks, then a recovery and its score for each task."""

from core.errors import DamagedFileError
from core.hopfield.memory import memorise
from core.masks.bits import joint_digest, unpack
from orchestrator.execution.controller import Failure
from orchestrator.execution.jobs import RecoveryQuestion
from orchestrator.execution.plan import join_plans, plan_jobs
from orchestrator.report.stream_figures import draw_recovery
from orchestrator.runs.results import Measured, scenario_key, test_batches
from orchestrator.runs.run import Run
from orchestrator.session import Phases
from orchestrator.stages.inferred import inferred_tasks, is_answered
from orchestrator.stages.recovery_tables import SCENARIO, merge_recovery, recovery_metrics, recovery_steps
from storage.bank_file import leading_digests
from storage.hopfield_file import stored_masks_digest, write_memory


def evaluate_recovery(phases: Phases) -> tuple[Measured, tuple[Failure, ...]]:
    """Recover and score at every k whose masks are there, or are in a memory that is."""
    run = phases.run
    questions = [question for question in _questions(run) if _ensure_memory(phases, question)]
    open_questions = [question for question in questions if not is_answered(run, question)]
    plan = join_plans(plan_jobs(q.k, 1, inferred_tasks(run, q), "recover", q) for q in open_questions)
    label = run.config.evaluation.way.label
    _, failures = phases.work(f"recovering masks ({label})", plan, sum(q.k for q in open_questions))
    for question in open_questions:
        merge_recovery(run, question)
    by_k = {}
    for question in questions:
        metrics = recovery_metrics(run, question)
        if metrics is not None:
            draw_recovery(run, recovery_steps(run, question), question.label, question.k)
            by_k[str(question.k)] = metrics
    return ({scenario_key(run, SCENARIO): {label: by_k}} if by_k else {}), failures


def has_memory(run: Run) -> bool:
    """Tell whether masks can be recovered without their files."""
    return run.config.network.masks_outputs and any(q.memory.exists() for q in _questions(run))


def _questions(run: Run) -> list[RecoveryQuestion]:
    evaluation = run.config.evaluation
    spec = evaluation.hopfield
    if spec is None:
        return []
    return [
        RecoveryQuestion(
            hopfield=spec, k=k, num_batches=test_batches(run), memory=run.layout.memory(spec.rule, k)
        )
        for k in evaluation.points(run.config.benchmark.num_tasks)
    ]


def _ensure_memory(phases: Phases, question: RecoveryQuestion) -> bool:
    """Make the memory of the first k masks, unless it is there; tell whether it is now.

    Where the masks themselves are gone, a memory that is there is good.
    """
    run, path = phases.run, question.memory
    try:
        digests = leading_digests(run.store)[: question.k]
    except DamagedFileError:
        digests = []
    if len(digests) < question.k:
        return path.exists()
    wanted = joint_digest(digests)
    if stored_masks_digest(path) != wanted:
        phases.display.message(f"storing {question.k} masks in Psi ({question.hopfield.rule})")
        shapes = run.identity.shapes
        masks = [unpack(mask.bits, shapes) for mask in run.store.iterate(range(question.k))]
        memory = memorise(question.hopfield.rule, masks)
        write_memory(path, memory, run.identity.names, fingerprint=run.fingerprint, masks_digest=wanted)
    return True
