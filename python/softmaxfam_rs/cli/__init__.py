"""Score, sample and learn many classes: linear heads, softmax, sparsemax, entmax, alias tables, their losses."""

import sys


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    try:
        import rich  # noqa: F401, PLC0415  an optional dependency, asked for here alone
        import typer  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        sys.exit(f"the command line needs {missing.name}; install it with: pip install 'softmaxfam-rs[cli]'")
    from . import compare_losses, demo, info, normalize, recommend, sample, score, train_words  # noqa: PLC0415  they need what was just looked for

    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
    commands = (demo.demo, info.info, normalize.normalize, sample.sample, score.score, recommend.recommend)
    for command in (*commands, compare_losses.compare_losses, train_words.train_words):
        app.command()(command)
    app()
