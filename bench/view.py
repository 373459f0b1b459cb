"""What `runmgr report` and `runmgr view` take of a batch of a million runs: seconds, memory, and milliseconds a page.

The child writes a million plausible result lines (some 500 MB) into a temporary directory, reports on them, and serves them; pages are asked
for over HTTP, as the browser does.

    python bench/view.py [--runs N] [--of DIR]
"""

from __future__ import annotations

import argparse

from harness import Contender, finish, save

CHILD = Contender("view", "cases/view_pages.py")
CLAIM_REPORT_MB = 2.0
CLAIM_RSS_MB = 300.0
CLAIM_PAGE_MS = 1_000.0
CLAIM_FIND_MS = 5_000.0
"""A search reads all texts."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--of", help="a batch's directory with so many results, instead of results made up")
    options = parser.parse_args()
    words = ["--runs", options.runs, *(["--of", options.of] if options.of else [])]
    found = CHILD.run(*words)
    print(f"\na batch of {options.runs:,} runs")
    print(
        f"  report  {found['report_seconds']:6.1f} s           {found['report_rss_mb']:5.0f} MB RSS  report.html {found['report_mb']:.2f} MB"
    )
    print(
        f"  view    {found['view_index_seconds']:6.1f} s to index (listens after {found['view_listens_seconds']:.1f} s)  {found['view_rss_mb']:5.0f} MB RSS  "
        f"first page of what is read by then {found['view_first_page_ms']:.0f} ms"
    )
    for name, milliseconds in found["pages_ms"].items():
        print(f"          {name:<14}{milliseconds:8.0f} ms")
    print(f"\nwritten to {save('view', found)}")
    finish(
        [
            f"{name}: {value:,.1f}, claimed at most {most:g}"
            for name, value, most in (
                ("report.html in MB", found["report_mb"], CLAIM_REPORT_MB),
                ("memory of the report in MB", found["report_rss_mb"], CLAIM_RSS_MB),
                ("memory of the view in MB", found["view_rss_mb"], CLAIM_RSS_MB),
                *(
                    (f"{name} in ms", value, CLAIM_FIND_MS if "find" in name else CLAIM_PAGE_MS)
                    for name, value in found["pages_ms"].items()
                ),
            )
            if value > most
        ]
    )


if __name__ == "__main__":
    main()
