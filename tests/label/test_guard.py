"""Hostile requests against the real server, reached from other machines: nothing outside is written, read or run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its own pages use

from scripts.bundles import ROOT
from scripts.errors import InputError
from scripts.label.access import make_access
from tests.label.conftest import Answer, Server

CODE = '$__import__("os").system("touch PWNED")'
HOSTILE = {
    "upwards": "../outside/secret",
    "upwards with ending": "../outside/secret.nii.gz",
    "backslash": "..\\outside\\secret",
    "encoded": "..%2foutside%2fsecret",
    "encoded twice": "..%252f..%252fsecret",
    "nul": "head1\0",
    "line": "head1\nx",
    "hidden": ".lock",
    "the folder": ".",
    "long": "x" * 300,
}
LIMIT = 1_000_000  # bytes


@pytest.fixture(scope="module")
def lab(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with studies, a secret beside them, links to it, and a study whose name is code."""
    root = tmp_path_factory.mktemp("hostile")
    place, outside = root / "studies", root / "outside"
    outside.mkdir()
    (place / "labels").mkdir(parents=True)
    head = (studies / "head1.nii.gz").read_bytes()
    for path in (place / "head1.nii.gz", place / f"{CODE}.nii.gz", outside / "secret.nii.gz"):
        path.write_bytes(head)
    (outside / "secret.raw").write_bytes(np.ones(8, np.float32).tobytes())
    (place / "linked.nii.gz").symlink_to(outside / "secret.nii.gz")
    (place / "dangling.nii.gz").symlink_to(outside / "new.nii.gz")
    (place / "linked_series").symlink_to(outside)
    (place / "labels" / "linked").symlink_to(outside)
    return root


@pytest.fixture(scope="module")
def guarded(start: Callable[..., Server], lab: Path, archives: dict[str, Path]) -> Server:
    words = ["--studies", str(lab / "studies"), "--bundles", str(archives["ixi_seg"]), "--host", "0.0.0.0"]
    return start(*words, "--allowed_hosts", "lab.example", "--max_upload_gb", str(LIMIT / 1e9))


def _tree(lab: Path) -> dict[str, str]:
    """Return all that no request may change: what is served, what lies beside it, and the studies."""
    kept = [lab / "outside", lab / "label_app" / "model", lab / "studies"]
    files = [path for folder in kept for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    files = [path for path in files if path.suffix != ".pyc"]
    moving = {"datastore_v2.json"}
    found = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name not in moving}
    pwned = [path for folder in (lab, lab.parent, ROOT) for path in folder.glob("*PWNED*")]
    return {**found, **{str(path): "made" for path in pwned}}


@pytest.fixture
def unchanged(guarded: Server, lab: Path) -> Iterator[None]:
    before = _tree(lab)
    yield
    assert _tree(lab) == before


@pytest.fixture(scope="module")
def image(studies: Path) -> Callable[[str], tuple[str, bytes]]:
    """A whole head, under some name."""
    return lambda name: (name, (studies / "head1.nii.gz").read_bytes())


def assert_refused(answer: Answer, status: int = 422) -> str:
    assert answer.status == status, answer.content[:300]
    line = answer.detail
    assert "\n" not in line
    assert len(line) < 300
    return line


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", [*HOSTILE.values(), "ABSOLUTE"], ids=[*HOSTILE, "absolute"])
def test_names_lie_in_the_studies(
    guarded: Server, lab: Path, name: str, image: Callable[[str], tuple[str, bytes]]
) -> None:
    name = name.replace("ABSOLUTE", str(lab / "outside" / "secret.nii.gz"))
    given = quote(name, safe="")
    for where in (
        "GET /datastore/image?image={}",
        "GET /datastore/image/info?image={}",
        "GET /datastore/label?label={}&tag=final",
        "GET /datastore/label?label=head1&tag={}",
        "GET /datastore/label/info?label={}&tag=final",
        "DELETE /datastore/?id={}",
        "DELETE /datastore/image?id={}",
        "DELETE /datastore/label?id={}&tag=final",
        "DELETE /datastore/label?id=head1&tag={}",
    ):
        method, path = where.split(" ", 1)
        assert_refused(guarded.raw(method, path.format(given)))
    assert guarded.raw("HEAD", f"/datastore/image?image={given}").status == 422
    assert guarded.raw("HEAD", f"/datastore/label?image={given}&tag=final").status == 422
    for path in ("/datastore/?image={}", "/datastore/image?image={}", "/datastore/image?image=&image={}"):
        assert_refused(guarded.form("PUT", path.format(given), params="{}", file=image("a.nii.gz")))
    for path in ("image={}", "image={}&tag=final", "image=head1&tag={}", "image=head1&label={}&tag=final"):
        assert_refused(
            guarded.form("PUT", f"/datastore/label?{path.format(given)}", params="{}", label=image("a.nii.gz"))
        )
    for path in ("label/info?label={}&tag=final", "label/info?label=head1&tag={}", "image/info?image={}"):
        assert_refused(guarded.form("PUT", f"/datastore/{path.format(given)}", info="{}"))
    assert_refused(guarded.form("PUT", f"/datastore/updatelabelinfo?label={given}&tag=final", params="{}"))
    assert_refused(guarded.form("POST", f"/infer/ixi_seg?image={given}&output=image", params="{}"))
    assert_refused(
        guarded.form("POST", "/infer/ixi_seg?image=head1", params=json.dumps({"save_label": True, "label_tag": name}))
    )
    assert_refused(guarded.post("/batch/infer/ixi_seg", {"label_tag": name}))
    assert_refused(guarded.form("POST", f"/infer/ixi_seg?session_id={given}&output=image", params="{}"))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["linked", "linked_series", "README.md", "scripts"])
def test_links_and_files_beside_the_server_are_no_studies(guarded: Server, name: str) -> None:
    assert_refused(guarded.form("POST", f"/infer/ixi_seg?image={name}&output=image", params="{}"), 404)
    assert_refused(guarded.raw("GET", f"/datastore/image?image={name}"), 404)
    assert_refused(guarded.raw("DELETE", f"/datastore/?id={name}"), 404)
    assert name not in guarded.get("/datastore/?output=all").json["objects"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["head1", "linked", "dangling", "linked_series"])
def test_nothing_is_overwritten(guarded: Server, name: str, image: Callable[[str], tuple[str, bytes]]) -> None:
    assert "already" in assert_refused(
        guarded.form("PUT", f"/datastore/?image={name}", params="{}", file=image("x.nii.gz"))
    )
    assert "already" in assert_refused(
        guarded.form("PUT", "/datastore/image", params="{}", file=image(f"{name}.nii.gz"))
    )


@pytest.mark.usefixtures("unchanged")
def test_a_label_goes_to_the_studies_alone(guarded: Server, image: Callable[[str], tuple[str, bytes]]) -> None:
    path = "/datastore/label?image=head1&tag=linked"
    assert "outside" in assert_refused(guarded.form("PUT", path, params="{}", label=image("x.nii.gz")))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "name",
    [
        *("inference.json", "a.py", "a.pt", "a.zip", "a.nii.gz.json", "a.NII", "a.dcm", "", ".nii.gz"),
        *("../PWNED.nii.gz", "/tmp/PWNED.nii", "..%2fPWNED.nii.gz", "b\\PWNED.nii.gz"),
    ],
)
def test_images_alone_come_in_under_names_of_their_own(guarded: Server, name: str) -> None:
    content = b"{\"run\": [\"$__import__('os').system('touch PWNED')\"]}"
    assert_refused(guarded.form("PUT", "/datastore/", params="{}", file=(name, content)))
    if not name.endswith(".dcm"):
        assert_refused(guarded.form("PUT", "/session/", files=(name, content)))
    if not name.endswith((".nii.gz", ".nii")):
        assert_refused(guarded.form("PUT", "/datastore/?image=PWNED", params="{}", file=(name, content)))
        assert_refused(guarded.form("PUT", "/datastore/label?image=head1", params="{}", label=(name, content)))
        assert_refused(guarded.form("POST", "/infer/ixi_seg?output=image", params="{}", file=(name, content)))


@pytest.mark.usefixtures("unchanged")
def test_what_is_no_image_is_not_kept(guarded: Server) -> None:
    answer = guarded.form("PUT", "/datastore/?image=text", params="{}", file=("text.nii.gz", b"a line of text"))
    assert assert_refused(answer).startswith("the image text ")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "head",
    [
        "ElementDataFile = {secret}",
        "ElementDataFile={secret}",
        "ElementDataFile = LIST\n{secret}",
        "ElementDataFile = slice%d.raw 1 2 1",
        "elementdatafile = LOCAL\nElementDataFile = {secret}",
        "Comment = ElementDataFile = LOCAL\nElementDataFile = {secret}",
        "Comment = \0\nElementDataFile = LOCAL",
        "ElementDataFile = LOCAL\nElementDataFile = {secret}",
    ],
)
def test_a_metaimage_that_points_elsewhere_is_refused(guarded: Server, lab: Path, head: str) -> None:
    begin = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_FLOAT\nElementSpacing = 4 4 4\n"
    text = begin + head.format(secret=lab / "outside" / "secret.raw") + "\n"
    _assert_refused_everywhere(guarded, "a.mha", text.encode() + bytes(32))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "line",
    ["data file: {secret}", "datafile: {secret}", "Data  File: {secret}", "data file: LIST\n{secret}", "x:=1\r\ny:=2"],
)
def test_an_nrrd_that_points_elsewhere_is_refused(guarded: Server, lab: Path, line: str) -> None:
    begin = "NRRD0004\ntype: float\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nendian: little\n"
    text = begin + line.format(secret=lab / "outside" / "secret.raw") + "\n"
    _assert_refused_everywhere(guarded, "a.nrrd", text.encode())
    _assert_refused_everywhere(guarded, "a.nrrd", text.encode() + b"\n" + bytes(32))


def _assert_refused_everywhere(server: Server, name: str, content: bytes) -> None:
    sent = (f"/home/somebody/{name}", content)
    for answer in (
        server.form("POST", "/infer/ixi_seg?output=image", params="{}", file=sent),
        server.form("PUT", "/datastore/?image=pointer", params="{}", file=sent),
        server.form("PUT", "/datastore/label?image=head1", params="{}", label=sent),
        server.form("PUT", "/session/", files=(name, content)),
    ):
        assert "save it as one file" in assert_refused(answer)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_whole_images_come_in_as_slicer_sends_them_and_can_be_removed(
    guarded: Server, lab: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"sent{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 5, 6), np.float32)), str(path))
    sent = (f"C:\\Users\\jo.doe\\Temp\\sent{ending}", path.read_bytes())
    params = json.dumps({"client_id": "user-xyz"})
    answer = guarded.form("PUT", "/datastore/?image=5%3A+T1+%28x%29", params=params, file=sent)
    assert answer.json == {"image": "5: T1 (x)"}
    assert (lab / "studies" / f"5: T1 (x){ending}").read_bytes() == path.read_bytes()
    assert guarded.raw("GET", "/datastore/image?image=5%3A+T1+%28x%29").content == path.read_bytes()
    assert guarded.raw("DELETE", "/datastore/?id=5%3A+T1+%28x%29").status == 200


@pytest.mark.usefixtures("unchanged")
def test_what_is_sent_has_a_limit_that_is_told_or_counted(guarded: Server) -> None:
    for path in ("/infer/ixi_seg", "/datastore/?image=huge", "/datastore/label?image=head1", "/session/"):
        method = "POST" if path.startswith("/infer") else "PUT"
        kind = {"Content-Type": "multipart/form-data; boundary=edge"}
        told = guarded.raw(method, path, headers={**kind, "Content-Length": str(LIMIT + 1)})
        assert "--max_upload_gb" in assert_refused(told, 413)
        # the connection is closed at once, which a client may see before the answer
        pieces = (bytes(100_000) for _ in range(1 + LIMIT // 100_000))
        try:
            assert_refused(guarded.raw(method, path, pieces, kind), 413)
        except (BrokenPipeError, ConnectionResetError):
            assert guarded.get("/auth/").status == 200


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("device", bad)
            for bad in ("@network", CODE, "cpu') or print('", "cuda:99", "cpu:1", "%device", "meta", 3, ["cpu", "x"])
        ),
        *(("model_filename", bad) for bad in ("../../../x.pt", "/x.pt", CODE, "x.json", ["model.pt"], "@network.pt")),
        *(("result_extension", bad) for bad in ("/../../x.nii.gz", ".jpg", CODE)),
        *(("result_dtype", bad) for bad in ("@network", CODE, {"_target_": "os.system"})),
        *(("save_label", bad) for bad in ("yes", 3)),
        ("image", "SECRET"),
        ("image", CODE),
        ("session", {"image": "SECRET"}),
        ("model", "ixi_seg"),
        ("bundle_root", "/tmp"),
        ("label_info", float("nan")),
        ("label_info", "\ud800"),
    ],
)
def test_params_of_an_inference_say_what_they_may(guarded: Server, lab: Path, key: str, value: Any) -> None:
    given = str(lab / "outside" / "secret.nii.gz") if value == "SECRET" else value
    assert_refused(guarded.form("POST", "/infer/ixi_seg?image=head1&output=image", params=json.dumps({key: given})))
    assert_refused(guarded.post("/batch/infer/ixi_seg", {key: given}))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "params", ["{broken", "[]", "null", "1", "[" * 5000, '{"roi": 1e999}', '{"roi": ' + "[" * 40 + "]" * 40 + "}"]
)
def test_params_are_an_object(guarded: Server, params: str) -> None:
    assert_refused(guarded.form("POST", "/infer/ixi_seg?image=head1&output=image", params=params))
    assert_refused(guarded.form("PUT", "/datastore/image/info?image=head1", info=params))
    assert_refused(guarded.send("POST", "/train/ixi_seg", params.encode()))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("max_epochs", bad) for bad in (CODE, "10", 0, -1, 10**9, 2.5, True, [1], None, "@x")),
        *(("epoch_length", bad) for bad in (0, 10**9, "%x")),
        *(("val_split", bad) for bad in (-0.1, 1, CODE, "0.2")),
        *(("device", bad) for bad in (CODE, "@network", "cuda:99")),
        ("pretrained", CODE),
        *((key, "/tmp") for key in ("bundle_path", "model", "gpus", "dataset_dir", "tracking_uri", "images")),
    ],
)
def test_options_of_a_training_are_numbers_within_bounds(guarded: Server, key: str, value: Any) -> None:
    assert key in assert_refused(guarded.post("/train/ixi_seg", {key: value}))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/batch/infer/ixi_seg", {"images": ["/etc/passwd"]}),
        ("/batch/infer/ixi_seg", {"gpus": "0;x"}),
        ("/batch/infer/ixi_seg", {"max_batch_size": "x"}),
        ("/batch/infer/ixi_seg?images=some", {}),
        ("/batch/infer/ixi_seg?run_sync=true", {}),
        ("/train/ixi_seg?run_sync=true", {}),
        ("/activelearning/random", {"strategy": "x", "image": "x"}),
    ],
)
def test_other_tasks_say_what_they_may(guarded: Server, path: str, content: dict[str, Any]) -> None:
    assert_refused(guarded.post(path, content))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "info", [{"path": "/etc/passwd"}, {"name": "../../.bashrc"}, {"id": "x"}, {"strategy": 1}, {"x": float("inf")}]
)
def test_no_client_tells_others_where_an_image_lies(guarded: Server, info: dict[str, Any]) -> None:
    text = json.dumps(info)
    assert_refused(guarded.form("PUT", "/datastore/image/info?image=head1", info=text))
    assert_refused(guarded.form("PUT", "/datastore/label/info?label=head1&tag=final", info=text))
    assert_refused(guarded.form("PUT", "/datastore/updatelabelinfo?label=head1&tag=final", params=text))


@pytest.mark.usefixtures("unchanged")
def test_code_in_the_name_of_a_study_is_no_code(guarded: Server, lab: Path, tmp_path: Path) -> None:
    assert CODE in guarded.get("/datastore/?output=all").json["objects"]
    odd = guarded.infer("ixi_seg", CODE)
    assert odd.status == 200, odd.content[:300]
    plain = guarded.infer("ixi_seg", "head1")
    voxels = []
    for answer in (odd, plain):
        (tmp_path / "answer.nii.gz").write_bytes(answer.content)
        voxels.append(np.asarray(nib.load(tmp_path / "answer.nii.gz").dataobj))
    np.testing.assert_array_equal(*voxels)


@pytest.mark.usefixtures("unchanged")
def test_sessions_hold_one_image_or_one_series(guarded: Server, image: Callable[[str], tuple[str, bytes]]) -> None:
    dicom = ("1", bytes(128) + b"DICM")
    assert_refused(guarded.form("PUT", "/session/?uncompress=true", files=image("a.nii.gz")))
    assert_refused(guarded.form("PUT", "/session/?expiry=-5", files=image("a.nii.gz")))
    for files in (
        [image("a.nii.gz"), image("b.nii.gz")],
        [dicom, image("b.nii.gz")],
        [dicom, ("..", dicom[1])],
        [dicom, dicom],
    ):
        assert_refused(guarded.form("PUT", "/session/", files=files))
    made = guarded.form("PUT", "/session/", client_id="somebody", files=image("a.nii.gz"))
    assert made.status == 200, made.content
    session = made.json["session_id"]
    assert guarded.get(f"/session/{session}").status == 200
    assert guarded.raw("DELETE", f"/session/{session}").status == 200
    for path in ("..", ".", "%2e%2e", "..%2f..", "x"):
        assert_refused(guarded.raw("GET", f"/session/{path}"), 404)
        assert_refused(guarded.raw("DELETE", f"/session/{path}"), 404)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "request_line",
    [
        *(
            "GET /model/ixi_seg",
            "PUT /model/ixi_seg",
            "DELETE /model/ixi_seg",
            "GET /model/info/ixi_seg",
            "POST /reload",
        ),
        *(
            "GET /proxy/dicom/x",
            "POST /proxy/dicom/wado/x",
            "GET /ohif/",
            "GET /ohif/..%2f..%2fx",
            "GET /static/ohif/index.html",
        ),
        *(
            "POST /infer/wsi/ixi_seg",
            "POST /infer/wsi_v2/ixi_seg",
            "GET /logs/",
            "GET /logs/gpu",
            "GET /",
            "GET /docs",
            "GET /openapi.json",
        ),
        *(
            "GET /datastore/dataset",
            "POST /train/",
            "POST /scoring/",
            "POST /scoring/x",
            "OPTIONS /info/",
            "PATCH /datastore/",
        ),
        *("GET /static/%2e%2e/x", "GET //info/", "POST /infer/..%2fx", "POST /train/%2e%2e", "TRACE /info/"),
    ],
)
def test_what_labelling_does_not_need_is_not_answered(guarded: Server, request_line: str) -> None:
    method, path = request_line.split(" ")
    assert_refused(guarded.raw(method, path), 404)


def test_without_the_token_nothing_is_told(guarded: Server, image: Callable[[str], tuple[str, bytes]]) -> None:
    assert "WARNING: 0.0.0.0 is reached from other machines" in guarded.log.read_text()
    assert len(guarded.token) >= 32
    for wrong in (
        "",
        "Bearer",
        "Bearer x",
        "Basic x",
        f"Token {guarded.token}",
        "Bearer é",
        f"Bearer {guarded.token}x",
    ):
        told = {"Authorization": wrong.encode("latin-1").decode("latin-1")}
        for method, path in (
            ("GET", "/info/"),
            ("PUT", "/datastore/?image=x"),
            ("GET", "/nothing"),
            ("GET", "/auth/token/valid"),
        ):
            assert_refused(guarded.raw(method, path, headers=told), 401)
    basic = base64.b64encode(f"anybody:{guarded.token}".encode()).decode()
    for right in (f"Bearer {guarded.token}", f"bearer {guarded.token}", f"Basic {basic}"):
        assert guarded.raw("GET", "/info/", headers={"Authorization": right}).status == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its connections open
def test_slicers_client_signs_in_with_the_token_as_password(guarded: Server) -> None:
    from monailabel.client.client import MONAILabelClient, MONAILabelClientException

    client = MONAILabelClient(guarded.address)
    assert client.auth_enabled()
    assert not client.auth_valid_token()
    with pytest.raises(MONAILabelClientException):
        client.info()
    with pytest.raises(MONAILabelClientException):
        client.auth_token("jo", "wrong")
    client.update_auth(client.auth_token("jo", guarded.token))
    assert client.auth_valid_token()
    assert set(client.info()["models"]) == {"ixi_seg"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((name, 400) for name in ("evil.example", "lab.example.evil.example", "evil@lab.example", "lab.example/x")),
        *((name, 200) for name in ("lab.example", "LAB.example:80", "192.0.2.7:8000", "[::1]", "localhost")),
    ],
)
def test_requests_for_another_name_are_refused(guarded: Server, host: str, status: int) -> None:
    assert guarded.raw("GET", "/info/", headers={"Host": host}).status == status
    assert guarded.raw("GET", "/auth/", headers={"Host": host}).status == status


@pytest.mark.usefixtures("unchanged")
def test_pages_of_other_sites_change_nothing(guarded: Server, image: Callable[[str], tuple[str, bytes]]) -> None:
    own = guarded.address
    for told in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": own + "0"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        for method, path in (("POST", "/infer/ixi_seg?image=head1"), ("DELETE", "/train/"), ("POST", "/auth/token")):
            assert_refused(guarded.raw(method, path, headers=told), 403)
    assert guarded.raw("DELETE", "/train/", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}).status == 200
    # a form is what a page of another site may send without asking
    assert_refused(guarded.raw("POST", "/train/ixi_seg", b'{"max_epochs": 1}', {"Content-Type": "text/plain"}))


def test_tokens_and_names_that_cannot_be_used() -> None:
    for token in ("short", "with space in it", "größe-der-zahl", "line\nline\nline"):
        with pytest.raises(InputError, match="--token"):
            make_access("127.0.0.1", token)
    with pytest.raises(InputError, match="--allowed_hosts"):
        make_access("127.0.0.1", None, ["a/b"])
    assert make_access("127.0.0.1", None).token is None
    assert make_access("localhost", "chosen-word").is_token("chosen-word")
    first, second = make_access("0.0.0.0", None).token, make_access("192.0.2.1", None).token
    assert first
    assert second
    assert first != second
