"""What the suite relies on in the tools that run it."""

from tests.conftest import group_of


def test_where_tests_run_in_several_processes_a_file_stays_in_one(request):
    """pytest-xdist groups by a suffix of the node's id, and does nothing where it cannot set it."""
    if request.config.getoption("loadgroup", default=False):
        assert request.node.nodeid.endswith(f"@{group_of(request.node)}")
