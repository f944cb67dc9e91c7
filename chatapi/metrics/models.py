"""Names of models as labels. Callers choose these names, so their number and their form are bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

OTHER = "other"
MAX_MODELS = 50  # with a label of their own
MAX_LABEL_LENGTH = 100


class ModelLabels:
    """The label of each model: its name, if the operator or the model API knows it, or `OTHER`.

    A model gets a label of its own with the first answer of the model API, so that invented names use up no labels.
    """

    def __init__(self, known: Iterable[str] = (), redact: Callable[[str], str] = str) -> None:
        """Know the models that the settings name. `redact` removes keys from a name."""
        self._redact = redact
        self._labels: dict[str, str] = {}
        for model in known:
            self.learn(model)

    def learn(self, model: str) -> None:
        """Give a model that the model API has answered for a label, if there is room for one."""
        if model in self._labels or len(self._labels) >= MAX_MODELS or not model.isprintable():
            return
        if 0 < len(model) <= MAX_LABEL_LENGTH and self._redact(model) == model:
            self._labels[model] = model

    def of(self, model: str) -> str:
        """Return the label of a model."""
        return self._labels.get(model, OTHER)
