"""`softmaxfam info`: what this installation found."""

from rich.console import Console
from rich.table import Table

import softmaxfam_rs as sf


def info() -> None:
    """Show versions, instruction sets found and used, threads and backends."""
    table = Table(show_header=False, box=None)
    for name, value in sf.show_config().items():
        table.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    Console().print(table)
