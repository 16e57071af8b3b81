"""Downloads from a real server on this machine: one that breaks off, lies, changes or is away.

ARC comes through OpenNeuro's own client, pointed at that server.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.prepare import openneuro as arc
from scripts.prepare.checksums import file_sums
from scripts.prepare.download import IXI, Remote, fetch, ixi_remotes, missing_bytes, require_space, verify
from tests.events import LIMIT

CONTENT = bytes(i * i % 251 for i in range(700_000))
OTHER = CONTENT[::-1]
CUT = 18 * 16_384  # where a connection is cut: whole pieces, as a library may drop the rest of one


@dataclass
class Resource:
    """How a path is served: ``cuts`` are the bytes after which successive replies break off."""

    content: bytes = CONTENT
    ranges: bool = True
    etag: str = '"v1"'
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    kind: str = "application/x-tar"
    stops_at: int | None = None  # bytes after which no more come before `Server.go`
    length: bool = True


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    if_range: str | None
    status: int


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.resources: dict[str, Resource] = {}
        self.answers: Callable[[str], object] | None = None
        self.log: list[Request] = []
        self.answered_at_once: int | None = None  # number of downloads, before `go`
        self.held, self.go = threading.Event(), threading.Event()

    def hold(self) -> None:
        """Say that an answer is held back, until ``go`` is set."""
        self.held.set()
        self.go.wait()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
        self._note(200)
        assert self.server.answers is not None
        body = json.dumps(self.server.answers(query)).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        resource = self.server.resources.get(self.path)
        status = 404 if resource is None else resource.statuses.pop(0) if resource.statuses else 200
        if resource is None or status != 200:
            self._note(status)
            self._head(status, {"Content-Length": "0"})
            return
        start, size = self._start(resource), len(resource.content)
        if start >= size:
            self._note(416)
            self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        headers = {"Content-Type": resource.kind, "ETag": resource.etag, "Connection": "close"}
        if resource.length:
            headers["Content-Length"] = str(size - start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._note(206 if start else 200)
        self._head(206 if start else 200, headers)
        if self.command == "GET":
            end = min(size, start + resource.cuts.pop(0)) if resource.cuts else size
            self._send(resource.content[start:end], resource.stops_at)
            self.close_connection = True

    def _start(self, resource: Resource) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        current = self.headers.get("If-Range") in (None, resource.etag)
        return int(asked[1]) if asked and resource.ranges and current else 0

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _send(self, content: bytes, stops_at: int | None) -> None:
        limit = self.server.answered_at_once
        if limit is not None and len([request for request in self.server.log if request.method == "GET"]) > limit:
            self.server.hold()
        self.wfile.write(content[:stops_at])
        self.wfile.flush()
        if stops_at is not None:
            self.server.hold()
            self.wfile.write(content[stops_at:])

    def _note(self, status: int) -> None:
        asked = (self.headers.get("Range"), self.headers.get("If-Range"))
        self.server.log.append(Request(self.command, self.path, *asked, status))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.go.set()
    server.shutdown()
    thread.join()
    server.server_close()


def remote(*urls: str, content: bytes = CONTENT, sums: bool = True) -> Remote:
    md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
    return Remote("a.tar", urls, len(content), md5 if sums else None, sha256 if sums else None)


def get(remote: Remote, folder: Path, **options) -> Path:
    return fetch(remote, folder, progress=False, pause=0.001, **options)


def asked(server: Server) -> list[tuple[int, str | None]]:
    return [(request.status, request.range) for request in server.log]


def test_a_file_comes_and_is_not_asked_for_again(server: Server, tmp_path: Path, capfd) -> None:
    server.resources["/a.tar"] = Resource()
    wanted = remote(server.url("/a.tar"))
    assert missing_bytes([wanted], tmp_path / "new") == len(CONTENT)
    path = fetch(wanted, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["a.tar"]
    assert re.search(r"a\.tar.*100%.*B/s", capfd.readouterr().err)
    assert fetch(wanted, path.parent) == path
    assert asked(server) == [(200, None)]
    assert missing_bytes([wanted], path.parent) == 0


def test_a_cut_connection_goes_on_at_the_right_byte(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource(cuts=[16_384, 0, 0, CUT])
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT
    begins = [None, *["bytes=16384-"] * 3, f"bytes={16_384 + CUT}-"]
    assert [request.range for request in server.log] == begins
    assert [request.if_range for request in server.log] == [None, *['"v1"'] * 4]


def test_a_server_that_cannot_begin_in_the_middle(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource(ranges=False, cuts=[CUT])
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT
    assert asked(server) == [(200, None), (200, f"bytes={CUT}-")]


def test_it_gives_up_where_nothing_more_comes(server: Server, tmp_path: Path) -> None:
    """A server without ranges that always breaks off at the same byte would be asked for ever."""
    server.resources["/a.tar"] = Resource(ranges=False, cuts=[CUT] * 50)
    with pytest.raises(InputError) as error:
        get(remote(server.url("/a.tar")), tmp_path)
    part = tmp_path / "a.tar.part"
    assert f"{CUT} bytes lie in {part}, the same command goes on from there" in str(error.value)
    assert "\n" not in str(error.value)
    assert part.read_bytes() == CONTENT[:CUT]
    assert len(server.log) <= 6
    assert missing_bytes([remote()], tmp_path) == len(CONTENT) - CUT
    server.resources["/a.tar"] = Resource()
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT
    assert asked(server)[-1] == (206, f"bytes={CUT}-")


def test_a_length_that_the_server_does_not_tell(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource(length=False)
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("old", "cut"),
    [(OTHER, CUT), (OTHER + b"12345", CUT), (OTHER + b"12345" * 9999, len(CONTENT)), (OTHER[:CUT], 16_384)],
    ids=["of the same length", "longer", "what is there is as long", "shorter"],
)
def test_a_file_that_has_changed_begins_anew(server: Server, tmp_path: Path, old: bytes, cut: int) -> None:
    server.resources["/a.tar"] = Resource(old, etag='"old"', cuts=[cut, *[0] * 9])
    with pytest.raises(InputError, match="lie in"):
        get(remote(server.url("/a.tar"), content=old), tmp_path)
    kept = (tmp_path / "a.tar.part").stat().st_size
    assert kept > cut - 16_384
    server.resources["/a.tar"] = Resource()
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT
    assert asked(server)[-1] == (200, f"bytes={kept}-")


@pytest.mark.parametrize("notes", [None, "{", '{"url": 3, "more": 1}'], ids=["no notes", "cut", "of another kind"])
def test_a_part_of_unknown_origin_is_not_used(server: Server, tmp_path: Path, notes: str | None) -> None:
    (tmp_path / "a.tar.part").write_bytes(OTHER[:1000])
    if notes is not None:
        (tmp_path / "a.tar.part.json").write_text(notes)
    server.resources["/a.tar"] = Resource()
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT
    assert asked(server) == [(200, None)]


def test_a_whole_part_needs_no_request(server: Server, tmp_path: Path) -> None:
    """As after a kill between the last byte and the new name."""
    url = server.url("/a.tar")
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    (tmp_path / "a.tar.part.json").write_text(json.dumps({"url": url, "version": '"v1"', "total": len(CONTENT)}))
    assert get(remote(url), tmp_path).read_bytes() == CONTENT
    assert server.log == []


def test_a_whole_part_of_unknown_length(server: Server, tmp_path: Path) -> None:
    """The server answers 416 and tells the size, which is what we have."""
    url = server.url("/a.tar")
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    (tmp_path / "a.tar.part.json").write_text(json.dumps({"url": url, "version": '"v1"', "total": None}))
    server.resources["/a.tar"] = Resource()
    assert get(remote(url), tmp_path).read_bytes() == CONTENT
    assert asked(server) == [(416, f"bytes={len(CONTENT)}-")]


def test_damaged_bytes_are_found_and_deleted(server: Server, tmp_path: Path) -> None:
    wrong = CONTENT[:5000] + b"\0" + CONTENT[5001:]
    server.resources["/a.tar"] = Resource(wrong)
    sums = [hashlib.sha256(content).hexdigest() for content in (wrong, CONTENT)]
    with pytest.raises(InputError, match=f"SHA-256 {sums[0]}, published is {sums[1]}, and was deleted") as error:
        get(remote(server.url("/a.tar")), tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    server.resources["/a.tar"] = Resource()
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT


def test_md5_alone_is_checked_too(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource(OTHER)
    only_md5 = Remote("a.tar", (server.url("/a.tar"),), md5=hashlib.md5(CONTENT).hexdigest())
    with pytest.raises(InputError, match=f"MD5 {hashlib.md5(OTHER).hexdigest()}, published is {only_md5.md5}"):
        get(only_md5, tmp_path)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (Resource(statuses=[404] * 9), "404 "),
        (Resource(statuses=[403] * 9), "403 "),
        (Resource(statuses=[503] * 18), "503 "),
        (Resource(b"<html>log in</html>", kind="text/html; charset=utf-8"), "web page"),
        (Resource(OTHER), "published"),
        (Resource(cuts=[0] * 18), "(ended early|was cut)"),
    ],
    ids=["404", "403", "503", "log-in page", "wrong bytes", "cut"],
)
def test_the_next_address_is_asked(server: Server, tmp_path: Path, first: Resource, told: str) -> None:
    server.resources |= {"/one/a.tar": first, "/two/a.tar": Resource()}
    one, two = server.url("/one/a.tar"), server.url("/two/a.tar")
    with pytest.raises(InputError, match=rf"a.tar did not come \({one}: .*{told}"):
        get(remote(one), tmp_path)
    assert get(remote(one, two), tmp_path).read_bytes() == CONTENT
    assert {request.path for request in server.log} == {"/one/a.tar", "/two/a.tar"}


def test_another_address_goes_on_with_the_bytes_of_the_first(server: Server, tmp_path: Path) -> None:
    """If a checksum will tell whether they fit; its version cannot, as it is the other server's."""
    server.resources |= {
        "/one/a.tar": Resource(cuts=[CUT], statuses=[200, 404]),
        "/two/a.tar": Resource(etag='"of-two"'),
    }
    addresses = server.url("/one/a.tar"), server.url("/two/a.tar")
    assert get(remote(*addresses), tmp_path / "sums").read_bytes() == CONTENT
    last = server.log[-1]
    assert (last.range, last.if_range, last.status) == (f"bytes={CUT}-", None, 206)
    server.resources["/one/a.tar"] = Resource(cuts=[CUT], statuses=[200, 404])
    assert get(remote(*addresses, sums=False), tmp_path / "none").read_bytes() == CONTENT
    assert (server.log[-1].range, server.log[-1].status) == (None, 200)


def test_a_page_to_log_in_does_not_cost_what_has_come(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource(cuts=[CUT, *[0] * 9])
    with pytest.raises(InputError):
        get(remote(server.url("/a.tar")), tmp_path)
    server.resources["/a.tar"] = Resource(b"<html>", ranges=False, kind="text/html")
    with pytest.raises(InputError, match=rf"a web page comes instead of the file\): {CUT} bytes lie in"):
        get(remote(server.url("/a.tar")), tmp_path)
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:CUT]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource(statuses=[503, 429, 500])
    assert get(remote(server.url("/a.tar")), tmp_path).read_bytes() == CONTENT
    assert [request.status for request in server.log] == [503, 429, 500, 200]


def test_no_server_at_all(tmp_path: Path, server: Server) -> None:
    closed = server.url("/a.tar").replace(str(server.server_address[1]), "9")
    with pytest.raises(InputError, match=r"a.tar did not come \(http://127.0.0.1:9/a.tar: .*\): try again later") as e:
        get(remote(closed), tmp_path)
    assert "\n" not in str(e.value)
    assert list(tmp_path.glob("*.tar*")) == []


def test_a_killed_download_is_continued(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource(stops_at=250_000)
    wanted = remote(server.url("/a.tar"))
    code = f"""
from pathlib import Path
from scripts.prepare.download import Remote, fetch
fetch({wanted!r}, Path({str(tmp_path)!r}), progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    part = tmp_path / "a.tar.part"
    try:
        assert server.held.wait(LIMIT)
        _until(lambda: part.stat().st_size > 0)
        with pytest.raises(InputError, match=r"is being downloaded by another process"):
            get(wanted, tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    size = part.stat().st_size
    assert 0 < size < len(CONTENT)
    server.resources["/a.tar"].stops_at = None
    assert get(wanted, tmp_path).read_bytes() == CONTENT
    assert asked(server) == [(200, None), (206, f"bytes={size}-")]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_the_disk_is_too_small(server: Server, tmp_path: Path) -> None:
    """A small disk in memory: by the size that the server tells, and, where it tells none, by writing."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount a small disk")
    try:
        server.resources["/a.tar"] = Resource()
        with pytest.raises(InputError, match=r"small needs about 700000 bytes for the rest of a.tar.part, \d+ bytes"):
            get(remote(server.url("/a.tar")), small)
        server.resources["/a.tar"] = Resource(length=False)
        with pytest.raises(InputError, match=r"a.tar.part fills the disk: free some space, the same command goes on"):
            get(remote(server.url("/a.tar")), small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_space_is_that_of_the_nearest_parent(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    require_space(tmp_path / "not" / "there", free // 2, "x")
    require_space(tmp_path, 0, "x")
    needed = free + 25_100_000_000
    with pytest.raises(InputError) as error:
        require_space(tmp_path / "not" / "there", needed, "the images and their maps")
    told = (
        rf"{tmp_path}/not/there needs about {needed / 1e9:.1f} GB for the images and their maps, [\d.]+ [GM]B are free"
    )
    assert re.match(told, str(error.value))


def test_verify_tells_both_sums_and_reads_once(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.tar", tmp_path / "records" / "sums.json"
    path.write_bytes(CONTENT)
    verify(path, remote(), cache=cache, progress=False)
    status = path.stat()
    path.write_bytes(OTHER)  # another content that looks untouched: taken for the old one, as it is not read
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    verify(path, remote(), cache=cache, progress=False)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    wrong, right = (hashlib.sha256(content).hexdigest() for content in (OTHER, CONTENT))
    for _ in range(2):
        with pytest.raises(InputError, match=f"{path} .*SHA-256 {wrong}, published is {right}: .*--verify false"):
            verify(path, remote(), cache=cache, progress=False)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match="cut off"):
        verify(path, remote(), cache=cache, progress=False)
    cache.write_text("no JSON")
    path.write_bytes(CONTENT)
    verify(path, remote(), cache=cache, progress=False)
    verify(path, remote(), progress=False)
    path.unlink()
    with pytest.raises(InputError, match=r"is missing: add --download"):
        verify(path, remote(), cache=cache, progress=False)


def test_a_download_is_remembered_as_verified(server: Server, tmp_path: Path) -> None:
    server.resources["/a.tar"] = Resource()
    path = get(remote(server.url("/a.tar")), tmp_path, cache=tmp_path / "sums.json")
    status = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    verify(path, remote(), cache=tmp_path / "sums.json", progress=False)


def test_sums_against_the_tools_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(CONTENT)
    for kind, tool in (("md5", "md5sum"), ("sha256", "sha256sum")):
        if shutil.which(tool):
            told = subprocess.run([tool, path], capture_output=True, text=True, check=True).stdout.split()[0]
            assert file_sums(path, progress=False)[kind] == told


def test_addresses_of_ixi() -> None:
    assert list(IXI) == ["T1", "T2", "PD"]
    official = "https://biomedic.doc.ic.ac.uk/brain-development/downloads/IXI/IXI-{}.tar"
    for kind, file in IXI.items():
        assert file.name == f"IXI-{kind}.tar"
        assert file.urls[0] == official.format(kind)
        assert len(file.md5 or "") == 32
        assert len(file.sha256 or "") == 64
        assert 3.5e9 < (file.size or 0) < 5e9
    assert IXI["T1"].urls[1].startswith("https://developer.download.nvidia.com/")
    mirrored = ixi_remotes("https://mirror.example/ixi/")
    assert [file.urls for file in mirrored.values()] == [
        (f"https://mirror.example/ixi/IXI-{kind}.tar",) for kind in IXI
    ]
    assert [file.sha256 for file in mirrored.values()] == [file.sha256 for file in IXI.values()]
    assert ixi_remotes() == IXI
    with pytest.raises(InputError, match=r"mirror='ftp.example' is no web address: type --mirror https://"):
        ixi_remotes("ftp.example")


TAG = "1.0.2"
DESCRIPTION = {"Name": "ARC", "DatasetDOI": f"doi:10.18112/openneuro.ds004884.v{TAG}"}


@pytest.fixture(scope="module")
def cohort(arc_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects, described as those of OpenNeuro, with files that are not of the index."""
    others = shutil.ignore_patterns("sub-M2004*", "sub-M2005*")
    root = Path(shutil.copytree(arc_cohort, tmp_path_factory.mktemp("arc") / "ds004884", ignore=others))
    (root / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    for name in ("sub-M2001/ses-9/anat/sub-M2001_ses-9_T2w.nii.gz", "sub-M2001/ses-9/func/sub-M2001_bold.nii.gz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not wanted")
    return root


@pytest.fixture
def index(cohort: Path, tmp_path: Path) -> Path:
    """The index of the cohort."""
    path = tmp_path / "index.csv"
    with path.open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["sub", "ses", "mask", "t2w", "t1w", "flair"])
        for mask in sorted((cohort / "derivatives").rglob("*_desc-lesion_mask.nii.gz")):
            anat = cohort / mask.parent.relative_to(cohort / "derivatives" / "lesion_masks")
            kinds = [sorted(anat.glob(f"*_{kind}.nii.gz")) for kind in ("T2w", "T1w", "FLAIR")]
            cells = [";".join(str(image.relative_to(cohort)) for image in images) for images in kinds]
            table.writerow([anat.parts[-3], anat.parts[-2], str(mask.relative_to(cohort)), *cells])
    return path


@pytest.fixture
def openneuro(server: Server, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """OpenNeuro as its client sees it: the list of files over GraphQL, the files with their MD5 as version."""
    client = pytest.importorskip("openneuro._download")
    monkeypatch.setattr(client, "gql_url", server.url("/crn/graphql"))
    files = {}
    for path in sorted(path for path in cohort.rglob("*") if path.is_file()):
        name, content = path.relative_to(cohort).as_posix(), path.read_bytes()
        server.resources[f"/{name}"] = Resource(content, etag=f'"{hashlib.md5(content).hexdigest()}"')
        files[name] = {"filename": name, "urls": [server.url(f"/{name}")], "size": len(content), "id": name}

    def answer(query: str) -> dict[str, object]:
        if "snapshots" in query:
            return {"data": {"dataset": {"snapshots": [{"id": "ds004884:1.0.1"}, {"id": f"ds004884:{TAG}"}]}}}
        assert f'snapshot(datasetId: "ds004884", tag: "{TAG}")' in query
        return {"data": {"snapshot": {"id": f"ds004884:{TAG}", "files": list(files.values())}}}

    server.answers = answer
    return server


def wanted_of(index: Path, cohort: Path) -> dict[str, bytes]:
    """Images of the index, their sidecars and what the client always brings."""
    images = [image for session in arc.read_index(index) for image in session.images()]
    sidecars = [image.replace(".nii.gz", ".json") for image in images]
    always = ["dataset_description.json", "participants.tsv", "participants.json", "README", "CHANGES"]
    names = [name for name in (*images, *sidecars, *always) if (cohort / name).is_file()]
    return {name: (cohort / name).read_bytes() for name in names}


def content_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_arc_comes_by_its_index(openneuro: Server, cohort: Path, index: Path, tmp_path: Path, capfd) -> None:
    folder = arc.fetch_arc(tmp_path / "new" / "ds004884", index=index)
    wanted = wanted_of(index, cohort)
    assert content_of(folder) == wanted
    assert sum(name.endswith(".json") for name in wanted) > 9
    told = capfd.readouterr()
    assert "images of ds004884 1.0.2 into" in told.out
    assert "100%" in told.err
    before = len(openneuro.log)
    arc.fetch_arc(folder, index=index)
    assert len(openneuro.log) == before, "all is there: nothing is asked"


def test_arc_goes_on_where_it_broke_off(openneuro: Server, cohort: Path, index: Path, tmp_path: Path, capfd) -> None:
    """A file of another size is noticed, one that was cut goes on, one with wrong bytes comes anew."""
    wanted, folder = wanted_of(index, cohort), tmp_path / "ds004884"
    arc.fetch_arc(folder, index=index, progress=False)
    assert "Overall" not in capfd.readouterr().err
    cut, damaged, gone = [name for name in wanted if name.endswith("T2w.nii.gz")][:3]
    (folder / cut).write_bytes(wanted[cut][:1000])
    (folder / damaged).write_bytes(wanted[damaged][::-1])
    (folder / gone).unlink()
    before = len(openneuro.log)
    arc.fetch_arc(folder, index=index, progress=False)
    assert content_of(folder) == wanted
    brought = {request.path[1:]: request.range for request in openneuro.log[before:] if request.method == "GET"}
    assert brought == {cut: "bytes=1000-", damaged: None, gone: None}


def test_arc_whose_files_fail_ends_with_one_line(
    openneuro: Server, cohort: Path, index: Path, tmp_path: Path, capfd
) -> None:
    wanted, folder = wanted_of(index, cohort), tmp_path / "ds004884"
    image = next(name for name in wanted if name.endswith("FLAIR.nii.gz"))
    openneuro.resources[f"/{image}"].statuses = [404]
    with pytest.raises(InputError) as error:
        arc.fetch_arc(folder, index=index, progress=False, retries=0)
    told = str(error.value)
    assert told.startswith(f"1 file of ARC did not come, the first: {image}: ")
    assert "404" in told
    assert "\n" not in told
    assert "debug" not in capfd.readouterr().err
    before = len(openneuro.log)
    arc.fetch_arc(folder, index=index, progress=False, retries=0)
    assert [request.path[1:] for request in openneuro.log[before:] if request.method == "GET"] == [image]
    assert content_of(folder) == wanted


def test_arc_after_kill(openneuro: Server, cohort: Path, index: Path, tmp_path: Path) -> None:
    wanted, folder = wanted_of(index, cohort), tmp_path / "ds004884"
    openneuro.answered_at_once = 12
    code = f"""
from pathlib import Path
import openneuro._download as client
from scripts.prepare.openneuro import fetch_arc
client.gql_url = {openneuro.url("/crn/graphql")!r}
fetch_arc(Path({str(folder)!r}), index=Path({str(index)!r}), progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    try:
        assert openneuro.held.wait(LIMIT)
        _until(lambda: any(folder.rglob("*.nii.gz")))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert content_of(folder) != wanted
    openneuro.answered_at_once = None
    arc.fetch_arc(folder, index=index, progress=False)
    assert content_of(folder) == wanted


def test_arc_beside_another_release(openneuro: Server, index: Path, tmp_path: Path) -> None:
    for doi in ("10.18112/openneuro.ds004884.v1.0.1", "10.18112/openneuro.ds000001.v1.0.2"):
        (tmp_path / "dataset_description.json").write_text(json.dumps({"DatasetDOI": doi}))
        with pytest.raises(InputError, match=r"holds another dataset or release than ds004884 1\.0\.2: give another"):
            arc.fetch_arc(tmp_path, index=index, progress=False)


def test_arc_of_datalad_is_left_to_datalad(openneuro: Server, cohort: Path, index: Path, tmp_path: Path) -> None:
    clone = Path(shutil.copytree(cohort, tmp_path / "clone"))
    (clone / ".git").mkdir()
    assert arc.fetch_arc(clone, index=index) == clone
    image = next(clone.rglob("*FLAIR.nii.gz"))
    image.unlink()
    image.symlink_to("../../.git/annex/objects/nowhere")
    with pytest.raises(InputError, match=r"is a DataLad clone that lacks 1 of \d+ images: type 'datalad get' there"):
        arc.fetch_arc(clone, index=index)
    assert openneuro.log == []


def test_openneuro_is_away(openneuro: Server, index: Path, tmp_path: Path) -> None:
    openneuro.answers = lambda query: {"errors": [{"message": "out of order"}]}
    with pytest.raises(InputError, match=r"OpenNeuro did not give ARC \(RuntimeError: .*out of order.*\): try again"):
        arc.fetch_arc(tmp_path / "new", index=index, progress=False, retries=0)


def test_the_index_of_arc() -> None:
    sessions = arc.read_index()
    assert len(sessions) == len({session.sub for session in sessions}) == 228
    assert sum(len(session.t2w) for session in sessions) == 228
    assert sum(bool(session.t1w) for session in sessions) == 203
    assert sum(bool(session.flair) for session in sessions) == 85
    (double,) = [session for session in sessions if len(session.flair) > 1]
    assert (double.sub, double.ses) == ("sub-M2054", "ses-1598")
    for session in sessions:
        images = session.images()
        assert all(f"{session.sub}/{session.ses}/anat/{session.sub}_{session.ses}_" in image for image in images)
        assert session.mask.removeprefix("derivatives/lesion_masks/").replace("_desc-lesion_mask", "") in session.t2w
        assert all("_T1w" in image for image in session.t1w)
        assert all("_FLAIR" in image for image in session.flair)


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", "sub,ses,mask,t2w\n1\n"], ids=["missing", "other", "short"])
def test_no_index(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "index.csv").write_text(content)
    with pytest.raises(InputError, match=r"index.csv is no index with the columns sub, ses, mask, t2w, t1w, flair"):
        arc.read_index(tmp_path / "index.csv")


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.02)
