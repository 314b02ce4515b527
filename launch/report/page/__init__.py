"""The HTML page: templates, style sheet, charts and tables."""

from triptych.launch.report.page.render import render

__all__ = ["render"]
