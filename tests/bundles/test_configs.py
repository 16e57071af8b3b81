"""Every bundle's files: metadata, JSON written one way, names that exist, the link to scripts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import pydoc
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from monai.bundle import ConfigParser, verify_metadata
from monai.bundle.config_item import ComponentLocator

from scripts.commands.networks import predict
from scripts.config_text import format_config

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/configs"))
CONFIGS = [path for bundle in BUNDLES for path in sorted((bundle / "configs").glob("*.json"))]
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "bundles"))


def strings(node: Any) -> Iterator[tuple[str, str]]:
    """Every (key, text) of a config; members of a list go by the key of the list."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, key
            members = value if isinstance(value, list) else [value]
            for member in members:
                yield from [(key, member)] if isinstance(member, str) else strings(member)
    elif isinstance(node, list):
        for member in node:
            yield from strings(member)


@pytest.fixture
def metadata(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle / "configs" / "metadata.json").read_text()))


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
class TestMetadata:
    def test_passes_the_schema(self, bundle: Path, metadata: dict[str, Any], tmp_path: Path) -> None:
        assert metadata["schema"].endswith(f"/{SCHEMA.name}")
        # a file that is there already stops monai's download of it
        placed = shutil.copy(SCHEMA, tmp_path / "schema.json")
        digest = hashlib.md5(SCHEMA.read_bytes()).hexdigest()
        verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=placed, hash_val=digest)
        assert json.loads(Path(placed).read_text()) == json.loads(SCHEMA.read_text())

    def test_schema_would_refuse_it_without_any_required_key(self, bundle: Path, metadata: dict[str, Any]) -> None:
        schema = json.loads(SCHEMA.read_text())
        for key in schema["required"]:
            with pytest.raises(jsonschema.ValidationError, match=re.escape(key)):
                jsonschema.validate({k: v for k, v in metadata.items() if k != key}, schema)
        metadata["network_data_format"]["inputs"]["image"]["num_channels"] = "one"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(metadata, schema)

    def test_version_is_in_the_changelog_and_sorts_last(self, bundle: Path, metadata: dict[str, Any]) -> None:
        assert metadata["version"] in metadata["changelog"]
        assert metadata["version"] == max(metadata["changelog"])

    def test_required_versions_are_exact(self, bundle: Path, metadata: dict[str, Any]) -> None:
        named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
        versions = {**{k: metadata[v] for k, v in named.items()}, **metadata["required_packages_version"]}
        for package, version in versions.items():
            assert re.fullmatch(r"\d+(\.\d+)+", version), package
            assert importlib.metadata.version(package)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
class TestConfig:
    def test_is_written_one_way(self, path: Path) -> None:
        """`python -m scripts.config_text` mends it."""
        text = path.read_text()
        assert text == format_config(json.loads(text))

    def test_holds_no_sign_that_monai_rewrites(self, path: Path) -> None:
        assert not [text for _, text in strings(json.loads(path.read_text())) if "#" in text]

    def test_every_target_exists(self, path: Path) -> None:
        locator = ComponentLocator()
        for key, target in strings(json.loads(path.read_text())):
            if key != "_target_" or target == "_target_":
                continue
            found = pydoc.locate(target) if "." in target else locator.get_component_module_name(target)
            assert found is not None, target

    def test_every_reference_leads_somewhere(self, path: Path) -> None:
        """An overlay is read on top of the config that it names, any other config alone."""
        below = [path.with_name(name) for name in re.findall(r'"Overlay on (\w+\.json)', path.read_text())]
        parser = ConfigParser()
        parser.read_config([str(p) for p in (*below, path)])
        parser.parse()
        unknown = set()
        for _, text in strings(parser.config):
            if text.startswith(("@", "$")):
                ids = re.findall(r"@([\w:]*\w)", text)
                unknown |= {i for i in ids if parser.get(i, parser) is parser}
        assert unknown == set()


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_scripts_is_a_relative_link_into_the_repository(bundle: Path) -> None:
    link = bundle / "scripts"
    assert link.is_symlink()
    assert str(link.readlink()) == "../../scripts"
    assert link.resolve() == ROOT / "scripts"


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_has_the_files_that_the_specification_names(bundle: Path) -> None:
    names = ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf", "configs/inference.json")
    assert not [name for name in names if not (bundle / name).is_file()]
    assert (bundle / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_its_readme_names_configs_and_settings_that_exist(bundle: Path) -> None:
    text = (bundle / "docs" / "README.md").read_text()
    for name in re.findall(r"configs/(\w+\.json)", text):
        assert (bundle / "configs" / name).is_file(), name
    known = {key for path in (bundle / "configs").glob("*.json") for key in json.loads(path.read_text())}
    known |= set(inspect.signature(predict).parameters) if "scripts predict" in text else set()
    commands = "".join(line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block)
    typed = set(re.findall(r"--([a-z_:]+)", commands)) - {
        *("config_file", "nproc_per_node", "filepath", "ckpt_file", "key_in_ckpt", "meta_file", "backend-store-uri"),
        *("backend", "out", "standalone"),
    }
    assert typed
    assert not [key for key in typed if key.split("::")[0] not in known]
