"""The page that a run leaves behind: report.html for people, report.json for programs."""

from triptych.launch.report.data import ReportData
from triptych.launch.report.write import write_report

__all__ = ["ReportData", "write_report"]
