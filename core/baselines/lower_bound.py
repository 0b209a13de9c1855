"""Lower bound: one trunk trained on all tasks in turn, which forgets; a head for each task."""

from core.baselines.separate_heads import SeparateHeads


class LowerBound(SeparateHeads):
    """As separate heads, but every task trains the trunk, and its running statistics are shared."""

    def trained(self, task: int) -> list[str]:
        """Return trunk and head."""
        return [*(f"trunk{layer}" for layer in range(self.num_layers - 1)), f"head{task}"]

    def statistics(self, task: int) -> str:
        """Return the one name that all tasks share."""
        del task
        return "statistics"
