"""What code below warns of, as lines on standard error: standard output belongs to results."""

import sys

import structlog
import typer


class _StandardError:
    """Looks standard error up at each line."""

    def msg(self, line: str) -> None:
        typer.echo(f"tallyrail: {line}", err=True)

    warning = error = critical = exception = fatal = msg


def configure() -> None:
    """Warnings and worse. The rest is for the logs of processes that run."""
    structlog.configure(
        processors=[
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
        ],
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=False,
    )
