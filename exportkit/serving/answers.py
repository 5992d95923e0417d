"""What a client is told when its request is not carried out: an HTTP status and a reason, for both protocols."""


class RequestError(Exception):
    """A request is refused.

    Args:
        status: of HTTP; gRPC's code follows from it.
        reason: one line for the client. It never names a path of the server.

    Attributes:
        retry: seconds after which the same request may well succeed; None where it will not.
    """

    def __init__(self, status: int, reason: str, *, retry: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry = retry


def shown(text: str, most: int = 80) -> str:
    """Quotes what a client sent, on one line and not at length."""
    quoted = ascii(text)
    return quoted if len(quoted) <= most else f"{quoted[:most]}...'"
