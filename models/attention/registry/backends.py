"""The backends of this process."""

from triptych.models.attention.registry.registry import Backend, Registry
from triptych.models.attention.registry.sigmoid import sigmoid_backends
from triptych.models.attention.registry.softmax import softmax_backends

REGISTRY = Registry([*softmax_backends(), *sigmoid_backends()])


def register_attention_backend(backend: Backend, *, before: str | None = None) -> None:
    """Make a backend known to all that choose one: models with sigmoid attention, modules in place of Transformer
    Engine's, `triptych attention`. It comes behind all others of its function, or before the one named. ValueError if
    its name is taken.
    """
    REGISTRY.register(backend, before=before)
