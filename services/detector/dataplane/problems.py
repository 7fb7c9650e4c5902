"""What can go wrong with a picture or with the model that is asked about it."""

from shared.core.problems import (
    BadRequest,
    Conflict,
    DeadlineExceeded,
    PayloadTooLarge,
    Problem,
    Unavailable,
    UnprocessableContent,
    UnsupportedMediaType,
)


class EmptyPicture(BadRequest):
    code, title = "empty_image", "No bytes where a picture belongs"


class NotAPicture(UnsupportedMediaType):
    code, title = "not_an_image", "Not a picture this server reads"


class TruncatedPicture(UnprocessableContent):
    code, title = "truncated_image", "The picture ends too early"


class PictureTooLarge(PayloadTooLarge):
    code, title = "image_too_large", "Too many pixels"


class TooManyRows(BadRequest):
    code, title = "too_many_rows", "More rows than the model takes"


class WrongParameter(BadRequest):
    code, title = "wrong_parameter", "A parameter that the model does not take"


class FixedSuppression(UnprocessableContent):
    code, title = "fixed_iou_threshold", "The IoU threshold is fixed in this model"


class UnknownLabel(UnprocessableContent):
    code, title = "unknown_label", "No such label"


class NoActivationMaps(UnprocessableContent):
    code, title = "no_activation_maps", "The model has no activation maps"


class VersionNotLoaded(Conflict):
    code, title = "version_not_loaded", "Version not loaded"


class WrongTask(Conflict):
    code, title = "wrong_task", "The model does something else"


class LoadFailed(Conflict):
    code, title = "load_failed", "The model cannot be loaded"


class ModelNotReady(Unavailable):
    code, title = "model_not_ready", "No version of this model can answer yet"


class Draining(Unavailable):
    code, title = "draining", "The server is stopping"


class QueueDeadlineExceeded(DeadlineExceeded):
    code, title = "deadline_exceeded", "The picture waited too long in the queue"


class ComputeDeadlineExceeded(DeadlineExceeded):
    code, title = "compute_timeout", "The model took too long"


class InferenceFailed(Problem):
    status, code, title = 500, "inference_failed", "The model failed on this picture"
