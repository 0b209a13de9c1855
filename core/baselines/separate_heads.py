"""Separate heads: a trunk trained with the first task, or random; then a head for each task."""

from torch import Tensor

from core.baselines.method import Plain, Values


class SeparateHeads(Plain):
    """Values: trunk0, trunk1 and so on, and a head for each task."""

    def begin(self, values: Values, task: int) -> None:
        """See ``Method``."""
        if task == 0:
            trunk = self.new_weights(range(self.num_layers - 1))
            values.update({f"trunk{layer}": weight for layer, weight in enumerate(trunk)})
        (values[f"head{task}"],) = self.new_weights([self.num_layers - 1], task)

    def trained(self, task: int) -> list[str]:
        """Return the head and, with the first task, the trunk, unless it stays random."""
        baseline = self.setting.spec.baseline
        with_trunk = task == 0 and not (baseline is not None and baseline.random_weights)
        trunk = [f"trunk{layer}" for layer in range(self.num_layers - 1)]
        return [*(trunk if with_trunk else ()), f"head{task}"]

    def weights(self, values: Values, task: int, course: int | None = None) -> list[Tensor]:
        """See ``Method``."""
        del course
        return [*(values[f"trunk{layer}"] for layer in range(self.num_layers - 1)), values[f"head{task}"]]
