"""The report: a results dictionary in, one self-contained HTML page or one Markdown file out."""

from biasgym.report.html import render_html
from biasgym.report.markdown import render_markdown

__all__ = ["render_html", "render_markdown"]
