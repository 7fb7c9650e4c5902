import pytest

from services.detector.negotiation import JPEG, JSON, NotAcceptable, preferred_type


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("image/jpeg", JPEG),
        ("IMAGE/JPEG", JPEG),
        ("image/*", JPEG),
        ("image/jpeg, */*", JPEG),  # equal quality: the more specific range
        ("image/jpeg, application/json", JSON),  # equal in everything
        ("image/jpeg;q=0.5, application/json", JSON),
        ("image/jpeg, application/json;q=0.5", JPEG),
        ("application/json;q=0, */*", JPEG),
        ("text/html, image/avif, image/webp, */*;q=0.8", JSON),  # a browser
        ("image/jpeg ; q=0.9 , application/* ; q=0.8", JPEG),
        ("image/png, */*;q=0.1", JSON),
    ],
)
def test_the_higher_quality_wins_then_the_more_specific_range(accept: str | None, expected: str) -> None:
    assert preferred_type(accept) == expected


@pytest.mark.parametrize(
    "accept", ["text/html", "image/png", "*/*;q=0", "image/jpeg;q=x", "image/jpeg;q=nan", ";;"]
)
def test_an_accept_that_rules_out_both_forms_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        preferred_type(accept)
