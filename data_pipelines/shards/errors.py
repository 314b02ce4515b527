"""What is raised for one sample that cannot be used, as opposed to a set that cannot be."""


class DamagedSample(ValueError):
    """One sample is unusable; the set around it is fine, so a caller may count it and go on.

    key: of the sample. reason: a short category to count by ("checksum", "image", "image too large", "empty caption",
    ...). detail: what is wrong, without the mend.
    """

    def __init__(self, key: str, reason: str, detail: str) -> None:
        super().__init__(f"sample {key}: {detail}; replace it, or raise max_damaged to skip more of them")
        self.key = key
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["DamagedSample"], tuple[str, str, str]]:
        return DamagedSample, (self.key, self.reason, self.detail)
