"""Write docs/API.md from the docstrings: ``make docs``. A test keeps the page up to date."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import griffe
from griffe2md import ConfigDict, render_object_docs

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "API.md"

# In the order in which one needs them. Two errors have the SDK's names besides their own.
NAMES = (
    "Bucket",
    "bucket.BucketFile",
    "bucket.files.Body",
    "BucketPrefixFiltering",
    "Filtering",
    "PrefixResourcesTransformation",
    "ResourcesTransformation",
    "SyncReport",
    "SyncFailed",
    "Connection",
    "QarnotfsError",
    "MissingBucketException",
    "errors.NoSuchBucket",
    "errors.MissingFile",
    "BucketStorageUnavailableException",
    "errors.NoStorage",
)
STYLE = ConfigDict(
    filters=["!^_", "^__(contains|delitem|getitem|iter|setitem)__$"],
    heading_level=2,
    inherited_members=True,
    members_order="source",
    show_if_no_docstring=False,  # fields are in their class's docstring
    show_bases=False,
    show_object_full_path=False,
    show_root_full_path=False,
    show_root_members_full_path=False,
    show_signature_annotations=True,
    summary=False,
)
HEAD = """# API

Made by `make docs` from the docstrings; [BUCKET.md](BUCKET.md) has examples. What is named here
may be imported from `qarnotfs`, except `BucketFile` and `Body`, which methods return, and the
errors, which are in `qarnotfs.errors`:

```text
{errors}
```

"""


def text() -> str:
    """The page."""
    package = griffe.load("qarnotfs", search_paths=[ROOT])
    docstring = package["errors"].docstring
    assert docstring is not None
    tree = dedent(docstring.value.partition("\n\n")[2].partition("\n\n")[2])
    sections = [render_object_docs(_found(package, name), STYLE, format_md=True) for name in NAMES]
    return HEAD.format(errors=tree) + "\n".join(sections)


def _found(package: griffe.Object | griffe.Alias, name: str) -> griffe.Object:
    """What a name of the package stands for."""
    found = package[name]
    return found.final_target if isinstance(found, griffe.Alias) else found


if __name__ == "__main__":
    PAGE.write_text(text())
