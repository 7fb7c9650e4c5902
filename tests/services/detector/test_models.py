from services.detector.schemas import Labels, ModelView, VersionList
from shared.repository import Manifest
from tests.fixtures.tiny_detection_model import LABELS
from tests.services.detector.serving import Served


def test_the_list_holds_each_model_as_its_own_page_shows_it(served: Served) -> None:
    listed = served.client.get("/v1/models").json()["models"]
    assert listed == [served.client.get("/v1/models/tiny").json()]
    view = ModelView.model_validate(listed[0])
    assert (view.name, view.state, view.version, view.loaded) == ("tiny", "ready", 2, [2])
    assert view.aliases == {"live": 2, "previous": 1}
    assert (view.task, view.precision, view.provider) == ("detection", "fp32", "CPUExecutionProvider")


def test_versions_say_which_alias_they_have_and_whether_they_are_loaded(served: Served) -> None:
    answer = VersionList.model_validate(served.client.get("/v1/models/tiny/versions").json())
    assert [(v.version, v.aliases, v.loaded) for v in answer.versions] == [
        (1, ["previous"], False),
        (2, ["live"], True),
    ]


def test_a_manifest_can_be_read_by_number_and_by_alias_loaded_or_not(served: Served) -> None:
    by_alias = served.client.get("/v1/models/tiny/versions/previous/manifest").json()
    assert by_alias == served.client.get("/v1/models/tiny/versions/1/manifest").json()
    manifest = Manifest.model_validate(by_alias)
    assert (manifest.name, manifest.version) == ("tiny", 1)


def test_labels_are_those_of_the_version_that_answers(served: Served) -> None:
    answer = Labels.model_validate(served.client.get("/v1/models/tiny/labels").json())
    assert (answer.version, answer.labels) == (2, LABELS)


def test_pages_of_unknown_models_and_versions_are_404(served: Served) -> None:
    for path in (
        "tin",
        "tin/versions",
        "tin/labels",
        "tin/versions/1/manifest",
        "tiny/versions/7/manifest",
        f"tiny/versions/{'9' * 23}/manifest",
    ):
        response = served.client.get(f"/v1/models/{path}")
        assert response.status_code == 404, path
        assert response.json()["detail"]


def test_no_name_leads_out_of_the_repository(served: Served) -> None:
    for name in ("..", "%2e%2e", "..%2f..", "tiny%2f1", "%00", "."):
        response = served.client.get(f"/v1/models/{name}/versions/1/manifest")
        assert response.status_code == 404, name
