"""Sends the golden cases of a folder to the running server, and measures the answers as `check --url` does: clients get what was proven."""

from exportkit import exchange, manifest, replay
from exportkit.serving.models import Model
from exportkit.spec import Report

_SECONDS = 60.0  # for one answer


def replayed(model: Model, host: str, port: int) -> Report:
    """Measures a served model on the golden cases of its folder.

    Raises:
        RunError: the server does not answer.
    """
    network = manifest.read_network(model.data["network"])
    artifact = manifest.read_artifact(model.data["formats"]["onnx"]["artifact"])
    place = exchange.parse(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    return replay.judge_server(model.folder, artifact, network, place, model.data["evidence"], _SECONDS)


def fault(report: Report) -> str:
    """Says in one line why a report does not pass; "" where it does."""
    if report.outcome.startswith("passed"):
        return ""
    wrong = next((one for one in report.measurements if not one.passed), None)
    if wrong:
        return f"{wrong.output} of {wrong.case}: {wrong.metric} is {wrong.value:.3g}, at most {wrong.limit:.3g} is right"
    return next((one.text for one in report.findings if one.severity == "error"), "") or "; ".join(report.undetermined) or report.outcome
