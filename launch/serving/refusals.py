"""A request that is not answered with samples: an HTTP status, and one sentence that says why."""


class Refused(Exception):
    """status: of HTTP. sentence: for who asked. retry_after_seconds: when to ask again, where that may help."""

    def __init__(self, status: int, sentence: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after_seconds = retry_after_seconds
