"""The studies and their labels: each file lies in their folder, and none that was sent takes the place of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore

from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header
from scripts.label.infer import refused
from scripts.label.uploads import IMAGE_ENDINGS
from scripts.label.values import check_name, check_tag, shown

__all__ = ["Studies"]


class Studies(LocalDatastore):
    """Images and labels of one folder.

    A link that leads out of the folder, and what an older list of the studies says outside of it, are no images here.
    A label that does not lie on the grid of its image is refused before it replaces another.
    """

    def get_image_uri(self, image_id: str) -> str:
        """Return where an image lies; empty for an unknown one."""
        return self._own(str(super().get_image_uri(image_id)), image_id)

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return where a label lies; empty for an unknown one."""
        return self._own(str(super().get_label_uri(label_id, label_tag)), label_id)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Keep a new image and return its name.

        Raises:
            MONAILabelException: there is one of that name, or it is no image.
        """
        try:
            check_name("image", image_id)
            if not str(image_filename).endswith(IMAGE_ENDINGS):
                raise InputError(f"image {shown(image_id)} has no ending of an image: send {', '.join(IMAGE_ENDINGS)}")
            taken = [image_id + ending for ending in IMAGE_ENDINGS if self._exists(image_id + ending)]
            if taken or image_id in self.list_images() or self._exists(image_id):
                raise InputError(
                    f"there is an image {shown(image_id)} already: give another name, or remove that first"
                )
            read_header(image_filename)
        except InputError as error:
            raise refused(str(error).replace(str(image_filename), f"the image {image_id}")) from error
        return str(super().add_image(image_id, image_filename, image_info))

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels."""
        self.get_image_uri(image_id)
        super().remove_image(image_id)
        self.refresh()  # at once: the name is free again

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label."""
        super().remove_label(label_id, label_tag)
        self.refresh()

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label in the place of the one there, and return its name.

        Raises:
            MONAILabelException: it does not lie on the grid of its image, or is no image.
        """
        image = self.get_image_uri(image_id)
        if image:
            try:
                check_tag("tag", str(getattr(label_tag, "value", label_tag)))
                _, ending = self._to_id(Path(label_filename).name)
                if ending not in IMAGE_ENDINGS:
                    raise InputError(f"{label_filename} has no ending of an image: send {', '.join(IMAGE_ENDINGS)}")
                self._own(str(Path(self._datastore.label_path(label_tag)) / f"{image_id}{ending}"), image_id)
                check_same_grid(read_header(image), read_header(label_filename))
            except InputError as error:
                # the file has a name of the server's own until it is kept
                reason = str(error).replace(str(label_filename), f"the label of {image_id}")
                raise refused(reason) from error
        return str(super().save_label(image_id, label_filename, label_tag, label_info))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Return images and their final labels, for training."""
        pairs = super().datalist(full_path)
        return [pair for pair in pairs if all(map(self._is_own, pair.values()))] if full_path else list(pairs)

    def _own(self, path: str, name: str) -> str:
        if path and not self._is_own(path):
            raise refused(f"{shown(name)} lies outside of the folder of the studies: copy it there in place of a link")
        return path

    def _is_own(self, path: str) -> bool:
        return Path(path).resolve().is_relative_to(Path(self._datastore_path).resolve())

    def _exists(self, name: str) -> bool:
        path = Path(self._datastore.image_path()) / name
        return path.exists() or path.is_symlink()

    def _list_files(self, path: str, patterns: Any) -> dict[str, str]:
        """Return the files of a folder; those whose names no answer could tell are left out."""
        found = super()._list_files(path, patterns)
        return {
            name: file
            for name, file in found.items()
            if name.encode("utf-8", "replace").decode() == name and self._is_own(str(Path(path) / file))
        }

    def _remove_non_existing(self) -> int:
        """Forget what is not there, or not in the folder; return how many that were."""
        count = int(super()._remove_non_existing())
        objects = self._datastore.objects
        for name, one in list(objects.items()):
            if not self._is_own(str(Path(self._datastore.image_path()) / f"{name}{one.image.ext}")):
                del objects[name]
                count += 1
                continue
            for tag, label in list(one.labels.items()):
                if not self._is_own(str(Path(self._datastore.label_path(tag)) / f"{name}{label.ext}")):
                    del one.labels[tag]
                    count += 1
        return count
