"""What others wrote into a sweep is text on the page of its report, never markup."""

from orchestrator.report.page import html_page, html_sweep, html_table

BAD = "<script>alert(1)</script>"
GOOD = "&lt;script&gt;alert(1)&lt;/script&gt;"


def test_names_and_sweeps_are_escaped():
    page = html_page(BAD, BAD, [html_sweep(f"name: {BAD}"), html_table([BAD], [[BAD]])])
    assert BAD not in page
    assert page.count(GOOD) == 6  # title, heading, lead, sweep, head and cell of the table
