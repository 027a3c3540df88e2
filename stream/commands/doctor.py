"""`linewatch doctor`: one line for each thing that Linewatch needs, each with the mend."""

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..doctor.findings import Finding

HELP = "look at device, codecs, broker, disks, clock, ports and weights, and say how to mend what is wrong"

_SHOWN = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", help="the config file (LINEWATCH_CONFIG, else ./cameras.yaml)")
    parser.add_argument("--config", dest="named", metavar="FILE", help="the same, as an option")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    """0: nothing failed (there may be warnings); 1: something did; 2: the config file is wrong."""
    findings = asyncio.run(_look(args.named or args.file, quiet=args.json))
    broken = [finding.subject for finding in findings if finding.level == "failed"]
    if args.json:
        print(json.dumps({"ok": not broken, "findings": list(map(asdict, findings))}, ensure_ascii=False))
    return 2 if "config" in broken else int(bool(broken))


async def _look(config: str | None, *, quiet: bool) -> "list[Finding]":
    from ..doctor.visit import visit

    findings = []
    async for finding in visit(config):
        findings.append(finding)
        if not quiet:
            print(f"{_SHOWN[finding.level]}  {finding.subject:<22} {finding.text}", flush=True)
    return findings
