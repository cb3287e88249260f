"""Checks as JUnit XML, the form in which continuous integration shows what passed and what did not."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from biasgym.evaluate.certificate import Check
from biasgym.evaluate.gate import Limits, passes
from biasgym.report.clean import clean_text


def junit(checks: Sequence[Check], limits: Limits, *, name: str = "biasgym gate") -> str:
    """One test case a check; one that does not pass is a failure, or an error where its numbers are missing."""
    lost = [check for check in checks if not passes(check, limits)]
    errors = sum(check.status == "missing" for check in lost)
    counts = {"tests": str(len(checks)), "failures": str(len(lost) - errors), "errors": str(errors)}
    suites = ElementTree.Element("testsuites", {"name": name, **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counts})
    for check in checks:
        about = {"classname": clean_text(check.cell), "name": clean_text(check.name), "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", about)
        detail = clean_text(check.detail)
        if check in lost:
            kind = "error" if check.status == "missing" else "failure"
            found = ElementTree.SubElement(case, kind, {"message": detail, "type": check.status})
            found.text = detail
        else:
            ElementTree.SubElement(case, "system-out").text = detail
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
