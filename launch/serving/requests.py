"""What a request may hold, as JSON."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from triptych.data_pipelines.vocabulary import Task

Rule = Literal["ancestral", "confidence", "maskgit"]
Span = Annotated[list[float], Field(min_length=2, max_length=2)]


class SamplingRequest(BaseModel):
    """How to sample; what is left out is as the run has it. choice_temperature: of the rule maskgit alone."""

    model_config = ConfigDict(extra="forbid")

    num_steps: int | None = Field(default=None, description="Sampling steps, of a block where there are blocks.")
    temperature: float | None = Field(default=None, description="Of the tokens; 0 takes the likeliest.")
    top_p: float | None = Field(default=None, description="Mass of the nucleus; 1 cuts nothing.")
    guidance: float | None = Field(default=None, description="Strength of classifier-free guidance; 0 is none.")
    rule: Rule | None = Field(default=None, description="What is revealed first.")
    choice_temperature: float | None = Field(default=None, description="Of maskgit: noise on the choice of places.")
    block_length: int | None = Field(default=None, description="Fill blocks of so many, from left to right.")


class InfillRequest(BaseModel):
    """Something that is there already, and the places of it that are to be made anew. One of `file` and `text`.

    A picture takes `mask` (a picture of the same shape, white where it is to be made anew) or `spans` of its codes; a
    recording `seconds` or `spans`; a text has holes of n tokens written as [[n]] in it.
    """

    model_config = ConfigDict(extra="forbid")

    file: str | None = Field(default=None, description="Base64 of a picture (t2i) or a recording (t2s).")
    text: str | None = Field(default=None, description="Text with holes, such as: The list [[3]] two values (text).")
    mask: str | None = Field(default=None, description="Base64 of a picture.")
    seconds: list[Span] | None = Field(default=None, description="[from, to] of stretches of a recording.")
    spans: list[Span] | None = Field(default=None, description="[first, last + 1] of codes.")


class GenerateRequest(BaseModel):
    """One condition, and what is to be made of it."""

    model_config = ConfigDict(extra="forbid")

    task: Task = Field(description="What comes in, and what comes out.")
    prompt: str | None = Field(default=None, description="Of t2i and t2s; of text its beginning, if it has one.")
    file: str | None = Field(default=None, description="Base64 (or data: URI) of a picture (i2t) or recording (s2t).")
    num: int = Field(default=1, description="Samples.")
    seed: int | None = Field(default=None, description="It decides the samples; the server's own if left out.")
    sampling: SamplingRequest = SamplingRequest()
    infill: InfillRequest | None = None
    resize: bool = Field(default=False, description="Cut and resize a picture to the run's size.")
    timeout_seconds: float | None = Field(
        default=None, gt=0, description="Give up after so long; the server has a limit too."
    )
