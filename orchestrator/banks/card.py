"""``BANK.md``, the card of a shared bank: what it is, what it was made from, what it can do, how to read it without us.

It follows from the files of the run alone, without times and folders, so that writing it again changes nothing.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from core.errors import plural
from orchestrator.execution.plan import number_ranges
from orchestrator.report.tables import METRIC_HEADS, RESULT_HEADS, metric_rows, result_rows
from orchestrator.report.text import byte_words, what_words
from orchestrator.runs.accuracy_matrix import AccuracyMatrix, accuracy_matrices
from orchestrator.runs.results import read_results
from orchestrator.runs.run import Run
from storage.arrow import numbers
from storage.files import commit_text
from storage.mask_copy import tasks_of
from storage.mask_facts import MaskFacts
from storage.run_file import RunRecord

MAX_COLUMNS = 20  # tasks of an accuracy matrix that is shown whole, parts of the data
# Of the images, as their publishers state it; of others nothing is known here.
LICENCES = {
    "fashion_mnist": "MIT (Zalando SE)",
    "digits": "CC BY 4.0 (UCI Machine Learning Repository, Optical Recognition of Handwritten Digits)",
    "synthetic": "none needed: made by this code",
}
NO_LICENCE = "not stated here; ask the publisher of the images"
READ_BITS = """\
import json; import numpy as np; import pyarrow.parquet as pq
file = pq.ParquetFile("{path}"); row = file.read_row_group({group}).to_pylist()[0]
layers = {{one["name"]: one["shape"] for one in json.loads(file.schema_arrow.metadata[b"supsup.layers"])}}
parts = np.split(np.frombuffer(row["bits"], "u1"), np.cumsum([-(-np.prod(shape) // 8) for shape in layers.values()]))
masks = {{name: np.unpackbits(part, count=np.prod(layers[name]), bitorder="little").reshape(layers[name]) for name, part in zip(layers, parts)}}
"""
READ_GAPS = """\
import json; import numpy as np; import pyarrow.parquet as pq
file = pq.ParquetFile("{path}"); row = file.read_row_group({group}).to_pylist()[0]
layers = {{one["name"]: one["shape"] for one in json.loads(file.schema_arrow.metadata[b"supsup.layers"])}}
ends = np.cumsum([-(-np.prod(shape) // 8) * 8 for shape in layers.values()]); gaps = np.frombuffer(row["gaps"], "u1").astype(int)
bits = np.full(ends[-1], 1 - row["rare_bit"], "u1"); bits[(np.cumsum(np.where(gaps == 255, 255, gaps + 1)) - 1)[gaps < 255]] = row["rare_bit"]
masks = {{name: part[: np.prod(layers[name])].reshape(layers[name]) for name, part in zip(layers, np.split(bits, ends))}}
"""


def write_card(run: Run, record: RunRecord, facts: MaskFacts) -> None:
    """Write ``BANK.md`` into the run folder, unless it says the same already. facts: of the verified masks."""
    text = bank_card(run, record, facts)
    if not run.layout.card.exists() or run.layout.card.read_text(encoding="utf-8") != text:
        commit_text(run.layout.card, text)


def bank_card(run: Run, record: RunRecord, facts: MaskFacts) -> str:
    """Return the card in Markdown."""
    parts = [f"# {run.name}", what_words(run, record), _table(("", ""), _rows(run, record, facts))]
    results = result_rows(read_results(run, facts))
    if results:
        parts += ["## Accuracy", _table(RESULT_HEADS, results)]
    matrices = [*accuracy_matrices(run, facts).values()]
    if matrices:
        parts += [_table(METRIC_HEADS, metric_rows(matrices)), *map(_matrix, matrices)]
    return "\n\n".join([*parts, *_reading(facts), *_use(run)]) + "\n"


def _rows(run: Run, record: RunRecord, facts: MaskFacts) -> Iterator[tuple[str, str]]:
    made, config = record.provenance, run.config
    num_masks, forgotten = len(facts.files), facts.files.forgotten
    yield "fingerprint", f"`{run.fingerprint}`, of all that the masks depend on"
    yield "masks", f"{plural(num_masks, 'task')}: {number_ranges(facts.files.keys())}, {_mask_words(facts)}"
    if forgotten:
        yield "forgotten", f"tasks {number_ranges(forgotten)}: taken out, and never trained again"
    layers = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in run.identity.layers)
    yield "network", f"{config.network.kind}, masked layers {layers}"
    yield "fixed weights", f"seed {config.seed}, sha256 `{run.identity.network['digest']}`"
    yield "data", f"{config.benchmark.dataset}, sha256 `{made.get('dataset_digest', 'not recorded')}`"
    parts = made.get("part_digests", [])
    for number, digest in enumerate(parts[:MAX_COLUMNS]):
        yield f"data, part {number}", f"sha256 `{digest}`"
    if len(parts) > MAX_COLUMNS:
        yield "data, other parts", f"{len(parts) - MAX_COLUMNS}, with their digests in run.json"
    for key, digest in made.get("code", {}).items():
        yield f"code, {key}", f"sha256 `{digest}`"
    yield "licence of the data", LICENCES.get(config.benchmark.dataset, NO_LICENCE)
    yield "tasks", f"{config.benchmark.kind}, seed {config.seed}"
    words = "; ".join(", ".join(one) for one in sorted(facts.made_by))
    yield "made by", f"supsup {made.get('supsup')} ({words})"


def _mask_words(facts: MaskFacts) -> str:
    sizes = numbers(facts.table["num_bytes"])
    if not len(sizes):
        return "in a Hopfield memory"
    density = float(numbers(facts.table["density"]).mean())
    return f"{byte_words(float(sizes.mean()))} each, {density:.3g} of the weights kept"


def _matrix(one: AccuracyMatrix) -> str:
    """Return the accuracy matrix, whole or, of many tasks, its mean, lowest and highest for each k."""
    title = f"{one.scenario}, {one.method or 'task given'}: accuracy in % on each task once k are learned"
    if one.values.shape[1] > MAX_COLUMNS:
        columns = [
            np.nanmean(one.values, axis=1),
            np.nanmin(one.values, axis=1),
            np.nanmax(one.values, axis=1),
        ]
        heads, cells_KC = ["mean", "lowest", "highest"], np.stack(columns, axis=1)
    else:
        heads, cells_KC = [f"task {task}" for task in range(one.values.shape[1])], one.values
    rows = [[f"{k}", *map(_cell, cells)] for k, cells in zip(one.ks, cells_KC, strict=True)]
    return f"{title}\n\n{_table(['k', *heads], rows)}"


def _cell(fraction: float) -> str:
    return "" if np.isnan(fraction) else f"{100 * fraction:.2f}"


def _reading(facts: MaskFacts) -> Iterator[str]:
    """Yield how to read the first mask, with numpy, and the rows of its Parquet file."""
    if not facts.files:
        return
    task = min(facts.files)
    name, encoding = facts.files.name_of(task), facts.table["encoding"][0].as_py()
    code = READ_GAPS if encoding == "gaps" else READ_BITS
    yield "## Read a mask without SupSup"
    yield f"`masks` of task {task} by layer, 1 where a weight is kept; run it in this folder:"
    yield f"```python\n{code.format(path=f'masks/{name}', group=task - tasks_of(name)[0])}```"
    yield (
        "A row of a mask file is a task; `task`, `digest` (sha256 of the packed bits), `density` and `test_accuracy` stand "
        "beside its bits. The fixed weights follow from their seed, by a recipe of five lines in `storage/FORMAT.md` of SupSup."
    )


def _use(run: Run) -> Iterator[str]:
    yield "## Use it with SupSup"
    lines = [f"supsup pull {run.name} SOURCE    # into runs/, every byte verified"]
    lines += [f"supsup verify {run.name}"]
    if run.config.can_answer:
        lines.append(f"supsup infer {run.name} IMAGE.png")
    yield "```bash\n" + "\n".join(lines) + "\n```"


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])
