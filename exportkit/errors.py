"""The exceptions that exportkit raises, and nothing else.

    ExportKitError
    |-- LoadError      the network file, or what it names, cannot be used
    |-- ExportError    the network cannot be exported; names what stands in the way
    |-- RunError       user code, an exporter or a runtime crashed, hung or ran out of memory
    |-- StoreError     the artifact folder cannot be read, written or trusted
    |-- RejectedError  a file from elsewhere is not what it says, does not run, or is not safe to load
    `-- PluginError    a format, backend, metric or reporter is missing or broken

A mismatch between an artifact and eager PyTorch is a `Measurement`, never an exception.
"""


class ExportKitError(Exception):
    """What went wrong, where, what was expected and found, and what to do next.

    Args:
        what: one sentence that names the fault.
        where: "file:line" in the user's network file, or the path at fault; "" where there is none.
        todo: what the user can do next; "" where nothing is known.

    Attributes:
        outcome: what a report says in place of a verdict.
        exit_code: of a command that ends so.
    """

    outcome = "could not run"
    exit_code = 2

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.what = what
        self.where = where
        self.todo = todo

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.todo}" if self.todo else ""
        return f"{place}{self.what}{advice}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.todo))


def _rebuild(kind: type[ExportKitError], what: str, where: str, todo: str) -> ExportKitError:
    return kind(what, where=where, todo=todo)


class LoadError(ExportKitError):
    """The network file, or what it names, cannot be used."""


class ExportError(ExportKitError):
    """The network cannot be exported; the text names what stands in the way."""


class RunError(ExportKitError):
    """User code, an exporter or a runtime crashed, hung or ran out of memory."""


class CrashError(RunError):
    """Native code of an operator, an exporter or a runtime ended its process with a signal."""


class StoreError(ExportKitError):
    """The artifact folder cannot be read, written or trusted."""


class RejectedError(ExportKitError):
    """A file from elsewhere is not what it says, does not run, or is not safe to load."""

    outcome = "rejected"
    exit_code = 1


class PluginError(ExportKitError):
    """A format, backend, metric or reporter is missing or broken."""
