"""What can be wrong with a request for a prediction."""

from servicekit.problem import (
    FieldError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Problem,
    ServiceUnavailable,
    UnsupportedMediaType,
)


class NotAnImage(UnsupportedMediaType):
    """The file is not a PNG, JPEG, WebP or GIF picture."""

    slug, title = "not-an-image", "Not an image"


class InvalidImage(InvalidRequest):
    """The picture is empty, damaged, cut short or has too many pixels."""

    slug, title = "invalid-image", "Invalid image"


class InvalidItem(InvalidRequest):
    """One of the pictures of a request is not valid."""

    def __init__(self, index: int, detail: str) -> None:
        super().__init__(f"item {index}: {detail}")


class InvalidUpload(InvalidRequest):
    """The body is not a form with one file in the field `file`."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__("the upload is not valid", errors=[FieldError(field=field, detail=detail)])


class UnknownClass(NotFound):
    """The model has no class of that index."""

    slug, title = "unknown-class", "Unknown class"


class UnknownModel(NotFound):
    """There is no model of that name."""

    slug, title = "unknown-model", "Unknown model"


class ModelNotReady(ServiceUnavailable):
    """The model is still being loaded, or could not be."""

    slug, title = "model-not-ready", "Model not ready"


class ModelControlOff(Forbidden):
    """Models are not loaded and unloaded over the network here."""

    slug, title = "model-control-off", "Model control is off"


class ModelNotLoaded(InvalidRequest):
    """The model could not be loaded; it is served as it was before, or not at all."""

    slug, title = "model-not-loaded", "Model not loaded"


class Overloaded(ServiceUnavailable):
    """There is more to do than can be done in time; nothing was computed."""

    slug, title = "overloaded", "Overloaded"


class TooManyRequests(Problem):
    """This caller asks more often than it may; nothing was read."""

    status, title, slug = 429, "Too many requests", "too-many-requests"

    def __init__(self, per_second: float, *, retry_after_seconds: int) -> None:
        super().__init__(
            f"the limit is {per_second:g} requests a second", headers={"Retry-After": str(retry_after_seconds)}
        )


class ShuttingDown(ServiceUnavailable):
    """This process finishes what it has begun, and takes no more."""

    slug, title = "shutting-down", "Shutting down"


class InferenceFailed(Problem):
    """The model could not compute this batch."""

    title, slug = "Inference failed", "inference-failed"


class DeadlineExceeded(Problem):
    """There was no result in time."""

    status, title, slug = 504, "Deadline exceeded", "deadline-exceeded"


class CallerLeft(Problem):
    """The caller closed the connection before the answer, and will not read this."""

    status, title, slug = 499, "Caller left", "caller-left"
