"""The command line: one command per verb; each imports the heavy rooms only when it runs."""

from __future__ import annotations

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
    SelectCohort,
)

DESCRIPTION = "How well can MGMT promoter methylation be told from MRI, and how sure are we?"

Command = (
    Annotated[Doctor, subcommand("doctor")]
    | Annotated[Synthesize, subcommand("synthesize")]
    | Annotated[SelectCohort, subcommand("cohort")]
    | Annotated[Prepare, subcommand("prepare")]
    | Annotated[Plan, subcommand("plan")]
    | Annotated[Run, subcommand("run")]
    | Annotated[Ensemble, subcommand("ensemble")]
    | Annotated[Explain, subcommand("explain")]
    | Annotated[Predict, subcommand("predict")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Audit, subcommand("audit")]
    | Annotated[Demo, subcommand("demo")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``mgmt-ray``; exits with 2 on what its user can mend, 130 when interrupted."""
    # Preemption sends SIGTERM; leaving by an exception ends runs and locks as they should be.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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
        print("mgmt-ray: interrupted. Repeat the command to continue.", file=sys.stderr)
        sys.exit(130)
