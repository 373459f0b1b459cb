"""From results to figures: the summary, the tables, one HTML file."""

from runmgr.report.lines import ResultLine, read_lines
from runmgr.report.summary import Summary, Tally, read_summary
from runmgr.report.write import tally_of, write_report

__all__ = ("ResultLine", "Summary", "Tally", "read_lines", "read_summary", "tally_of", "write_report")
