"""Backends by name, and the choice among them."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from triptych.models.attention.registry.request import AttentionCall, AttentionRequest, Function

logger = logging.getLogger("triptych.attention")
"""As in Transformer Engine: at INFO who runs, at DEBUG why the others do not. Once for each different request."""


class Attend(Protocol):
    """What does the work."""

    def __call__(self, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, call: AttentionCall) -> Tensor:
        """O [B, S, H, E] in the inputs' dtype; what no segment of the call covers is 0, and so are its gradients."""
        ...


class Refusal(Protocol):
    """What knows whether the work can be done."""

    def __call__(self, request: AttentionRequest) -> str | None:
        """Why the backend cannot do it, as a clause, or None."""
        ...


@dataclass(kw_only=True, slots=True, frozen=True)
class Backend:
    """One way to compute one function. automatic: it may be chosen without being named."""

    name: str
    function: Function
    refusal: Refusal
    attend: Attend
    automatic: bool = True


@dataclass(kw_only=True, slots=True, frozen=True)
class Choice:
    """Who runs, and for every other backend of the function why it does not, in their order."""

    backend: Backend
    reasons: dict[str, str]


class Registry:
    """Backends in the order in which they are preferred."""

    def __init__(self, backends: Iterable[Backend] = ()) -> None:
        self._backends: list[Backend] = []
        self._choices: dict[tuple[AttentionRequest, str | None], Choice] = {}
        for backend in backends:
            self.register(backend)

    def register(self, backend: Backend, *, before: str | None = None) -> None:
        """Add a backend, behind all others or before the one named. ValueError if its function has one of its name, or
        none to stand before.
        """
        names = [other.name for other in self.backends(backend.function)]
        if backend.name in names or backend.name == "auto":
            raise ValueError(f"{backend.function} attention has a backend {backend.name!r}; give it another name")
        position = len(self._backends)
        if before is not None:
            position = self._backends.index(self._named(backend.function, before))
        self._backends.insert(position, backend)
        self._choices.clear()

    def backends(self, function: Function) -> list[Backend]:
        """Those of a function, the preferred first."""
        return [backend for backend in self._backends if backend.function == function]

    def reasons(self, request: AttentionRequest) -> dict[str, str | None]:
        """Every backend of the request's function to why it cannot do it, or None."""
        return {backend.name: backend.refusal(request) for backend in self.backends(request.function)}

    def choose(self, request: AttentionRequest, name: str | None = None) -> Choice:
        """The backend of that name, or without one ("auto" is none) the first that may be chosen and can.

        ValueError, with reasons, where it cannot, or none can.
        """
        name = None if name == "auto" else name
        if torch.compiler.is_compiling():  # neither the store nor the log can be traced
            return self._choose(request, name)
        if (request, name) not in self._choices:
            choice = self._choose(request, name)
            self._choices[request, name] = choice
            logger.info("Running %s attention with backend %s", request.function, choice.backend.name)
            for other, reason in choice.reasons.items():
                logger.debug("Not running %s: %s", other, reason)
        return self._choices[request, name]

    def _choose(self, request: AttentionRequest, name: str | None) -> Choice:
        if name is not None:
            self._named(request.function, name)
        reasons = self.reasons(request)
        chosen = next((backend for backend in self._candidates(request, name) if reasons[backend.name] is None), None)
        if chosen is None:
            raise ValueError(_refusal_of_all(request, reasons, name))
        others = {backend.name: backend for backend in self.backends(request.function) if backend is not chosen}
        return Choice(
            backend=chosen,
            reasons={other: reasons[other] or _why_not(backend, chosen, name) for other, backend in others.items()},
        )

    def _candidates(self, request: AttentionRequest, name: str | None) -> list[Backend]:
        backends = self.backends(request.function)
        return [backend for backend in backends if backend.name == name or (name is None and backend.automatic)]

    def _named(self, function: Function, name: str) -> Backend:
        backends = {backend.name: backend for backend in self.backends(function)}
        if name not in backends:
            raise ValueError(f"{function} attention has no backend {name!r}; take auto or one of {', '.join(backends)}")
        return backends[name]


def _refusal_of_all(request: AttentionRequest, reasons: dict[str, str | None], name: str | None) -> str:
    if name is not None:
        return f"{name} cannot run this {request.function} attention: {reasons[name]}; take auto, or another backend"
    told = ", ".join(f"{other}: {reason}" for other, reason in reasons.items() if reason)
    return f"no backend can run this {request.function} attention: {told}; change what a reason names"


def _why_not(backend: Backend, chosen: Backend, name: str | None) -> str:
    """Why a backend does not run that can."""
    if name is not None:
        return f"it can, but {name} is asked for"
    return f"it can, but {chosen.name} comes first" if backend.automatic else "it can, but only if it is asked for"
