"""The command line: one command per verb; each imports what it runs only when it is called."""

from __future__ import annotations

import io
import signal
import sys
from typing import Annotated

import tyro
from tyro.conf import UseAppendAction, subcommand

from mgmt_ray.base import MgmtError
from mgmt_ray.cli.setup_commands import Demo, Doctor, Synthesize
from mgmt_ray.cli.study_commands import (
    Audit,
    Ensemble,
    Explain,
    Plan,
    Predict,
    Prepare,
    Report,
    Run,
    Search,
    SelectCohort,
)

DESCRIPTION = (
    "How well can MGMT promoter methylation be predicted from MRI, and how certain is that?"
)

Command = (
    Annotated[Doctor, subcommand("doctor")]
    | Annotated[Synthesize, subcommand("synthesize")]
    | Annotated[SelectCohort, subcommand("cohort")]
    | Annotated[Prepare, subcommand("prepare")]
    | Annotated[Plan, subcommand("plan")]
    | Annotated[Search, subcommand("search")]
    | Annotated[Run, subcommand("run")]
    | Annotated[Ensemble, subcommand("ensemble")]
    | Annotated[Explain, subcommand("explain")]
    | Annotated[Predict, subcommand("predict")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Audit, subcommand("audit")]
    | Annotated[Demo, subcommand("demo")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run ``mgmt-ray``; exits with 2 on an :class:`MgmtError`, and with 130 on Ctrl-C."""
    # preemption sends SIGTERM; an exception ends MLflow runs and releases locks properly
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of a locale that cannot write “…” or “³”
    try:
        command: Command = tyro.cli(
            Command,
            prog="mgmt-ray",
            description=DESCRIPTION,
            args=arguments,
            config=(UseAppendAction,),
        )
        command.run()
    except MgmtError as error:
        print(f"mgmt-ray: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mgmt-ray: interrupted. Rerun the command to continue.", file=sys.stderr)
        sys.exit(130)
