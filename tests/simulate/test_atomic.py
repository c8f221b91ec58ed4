"""Files whole or not at all, and folders that are found to take them before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulate.atomic import writable_folder


def test_a_folder_to_keep_things_in_is_one_that_takes_files(tmp_path: Path) -> None:
    assert writable_folder(None) is None
    for given in (tmp_path / "new" / "cells", str(tmp_path / "new" / "cells")):
        assert writable_folder(given) == tmp_path / "new" / "cells"
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "text"
    file.touch()
    for given in (file, str(file), file / "cells"):
        with pytest.raises(OSError, match=r"text.* cannot be written: Not a directory"):
            writable_folder(given)
