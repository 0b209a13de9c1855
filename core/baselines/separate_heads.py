"""Separate heads: a trunk, random or trained with the first task, and a head for each task."""

from torch import Tensor

from core.baselines.method import Plain, Values


class SeparateHeads(Plain):
    """Values: ``trunk0``, ``trunk1``, ... and a head for each task."""

    def begin(self, values: Values, task: int) -> None:
        """See ``Method``."""
        if task == 0:
            trunk = self.new_weights(range(self.num_layers - 1))
            values.update({f"trunk{layer}": weight for layer, weight in enumerate(trunk)})
        (values[f"head{task}"],) = self.new_weights([self.num_layers - 1], task)

    def trained(self, task: int) -> list[str]:
        """Return the head and, with the first task, the trunk, unless it stays random."""
        baseline = self.problem.spec.baseline
        with_trunk = task == 0 and not (baseline is not None and baseline.random_weights)
        trunk = [f"trunk{layer}" for layer in range(self.num_layers - 1)]
        return [*(trunk if with_trunk else ()), f"head{task}"]

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """See ``Method``."""
        del course
        return [*(values[f"trunk{layer}"] for layer in range(self.num_layers - 1)), values[f"head{task}"]]


class LowerBound(SeparateHeads):
    """Separate heads on a trunk that every task trains, with shared running statistics."""

    def trained(self, task: int) -> list[str]:
        """Return trunk and head."""
        return [*(f"trunk{layer}" for layer in range(self.num_layers - 1)), f"head{task}"]

    def statistics(self, task: int) -> str:
        """Return the name that all tasks share."""
        del task
        return "statistics"


class UpperBound(Plain):
    """Values of task t: ``t/trunk0``, ... and ``t/head0`` to ``t/headt``; only the last head is used at test.

    Each task trains a new trunk on batches of all tasks so far in turn, each with its own head, so task t
    costs t + 1 times as much as with other methods.
    """

    def begin(self, values: Values, task: int) -> None:
        """See ``Method``."""
        trunk = self.new_weights(range(self.num_layers - 1), task)
        values.update({f"{task}/trunk{layer}": weight for layer, weight in enumerate(trunk)})
        for other in range(task + 1):
            (values[f"{task}/head{other}"],) = self.new_weights([self.num_layers - 1], task, other)

    def courses(self, task: int) -> list[int]:
        """Return the task and all earlier ones."""
        return list(range(task + 1))

    def trained(self, task: int) -> list[str]:
        """Return the task's whole model."""
        trunk = [f"{task}/trunk{layer}" for layer in range(self.num_layers - 1)]
        return trunk + [f"{task}/head{other}" for other in range(task + 1)]

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """Return the task's model, with its own head or that of the course."""
        trunk = [values[f"{task}/trunk{layer}"] for layer in range(self.num_layers - 1)]
        return [*trunk, values[f"{task}/head{task if course is None else course}"]]
