"""Upper bound: a model for each task, its trunk trained on that task and all before it."""

from torch import Tensor

from core.baselines.method import Plain, Values


class UpperBound(Plain):
    """Values of task t: ``t/trunk0`` and so on, and ``t/head0`` to ``t/headt``; only the last head is used at test.

    A trunk starts anew with each task and takes a batch of each of its tasks in turn, each with a head of
    its own, so task t costs t + 1 times what a task costs elsewhere.
    """

    def begin(self, values: Values, task: int) -> None:
        """See ``Method``."""
        trunk = self.new_weights(range(self.num_layers - 1), task)
        values.update({f"{task}/trunk{layer}": weight for layer, weight in enumerate(trunk)})
        for other in range(task + 1):
            (values[f"{task}/head{other}"],) = self.new_weights([self.num_layers - 1], task, other)

    def courses(self, task: int) -> list[int]:
        """Return the task and all before it."""
        return list(range(task + 1))

    def trained(self, task: int) -> list[str]:
        """Return the task's whole model."""
        trunk = [f"{task}/trunk{layer}" for layer in range(self.num_layers - 1)]
        return trunk + [f"{task}/head{other}" for other in range(task + 1)]

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """Return the task's model, with its own head or that of the course."""
        trunk = [values[f"{task}/trunk{layer}"] for layer in range(self.num_layers - 1)]
        return [*trunk, values[f"{task}/head{task if course is None else course}"]]
