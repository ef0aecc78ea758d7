"""What people remark on a run outlives the next one."""

from tests.chaos.report import proof
from tests.chaos.rig import Verdict


def verdict(**members) -> Verdict:
    counts = {"seconds": 1, "enqueued": 2, "deliveries": 3, "resumed": 0, "calls": 5, "unknown": 0}
    return Verdict(**{"phase": "kills", "did": "1 × kill", "violations": [], "figures": [], **counts, **members})


def test_page_is_written_anew_but_for_the_remarks():
    page = proof([verdict(violations=["a job was lost"])], 1, "")
    assert page.count("## Remarks") == 1
    page += "\n`abc`: mended.\n\n## More of it\n"
    rewritten = proof([verdict(seconds=77)], 2, page)
    assert "a job was lost" not in rewritten
    assert "| 77 |" in rewritten
    assert rewritten.count("## Remarks") == 1
    assert rewritten.endswith("\n`abc`: mended.\n\n## More of it\n")
    assert proof([verdict(seconds=77)], 2, rewritten) == rewritten
