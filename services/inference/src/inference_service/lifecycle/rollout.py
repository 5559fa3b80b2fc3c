"""Which version of a model answers a caller, and which one only goes along."""

import hashlib

from inference_service.lifecycle.registry import ModelRegistry, ServedModel


def choose(models: ModelRegistry, subject: str, name: str | None = None, version: str | None = None) -> ServedModel:
    """Return the version that answers `subject`: the one that it names, else its canary or the stable one.

    Raises:
        UnknownModel: there is none of that name and version.
    """
    stable = models.get(name, version)
    if version is not None:
        return stable
    model = stable.source.name
    canary = next((served for served in models.versions(model) if served.model and served.weight), None)
    if canary and canary.weight and percentile(model, subject) < canary.weight:
        return canary
    return stable


def shadow_of(models: ModelRegistry, answered: ServedModel) -> ServedModel | None:
    """Return the version that goes along with `answered`, where that is the stable one."""
    name = answered.source.name  # which may be gone since its model began
    shadow = next((served for served in models if served.source.name == name and served.model and served.shadow), None)
    return shadow if shadow and models.get(name) is answered else None


def percentile(model: str, subject: str) -> float:
    """Return where a caller stands among all of them, from 0 to under 100.

    The same in each process and at any time, so that a caller keeps its version, and a canary that is given
    more keeps its callers. Each model has an order of its own: not always the same callers go first.
    """
    digest = hashlib.sha256(f"{model}\0{subject}".encode()).digest()
    # 53 bits: with more, the largest would be rounded up to 100.
    return (int.from_bytes(digest[:8]) >> 11) * 100 / 2**53
