"""Wheels of the packages that the tests run with: pip installs them without a registry, and without a search in it."""

from __future__ import annotations

import hashlib
import re
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

NOT_IN_WHEELS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}  # written by the installation


def lock_to_wheels(lock: Path, folder: Path) -> None:
    """Pack each package that a lock file names into a wheel in `folder`; write the wheel's hash into the lock file."""
    blocks = []
    for block in blocks_of(lock):
        requirement = Requirement(block.partition("\\")[0])
        if requirement.marker is None or requirement.marker.evaluate():
            installed = distribution(requirement.name)
            assert installed.version in requirement.specifier, f"{requirement} is not installed: ./run test installs it"
            digest = hashlib.sha256(pack(installed, folder).read_bytes()).hexdigest()
            block = f"{requirement} \\\n    --hash=sha256:{digest}"  # noqa: PLW2901
        blocks.append(block)
    lock.write_text("\n".join(blocks) + "\n")


def blocks_of(lock: Path) -> list[str]:
    """Return the requirements of a lock file, each with its hashes."""
    return re.split(r"\n(?=\S)", lock.read_text().strip())


def pack(installed: Distribution, folder: Path) -> Path:
    """Make a wheel of an installed package, without its commands: pip makes those of its entry points."""
    tags = [line.removeprefix("Tag: ").split("-") for line in (installed.read_text("WHEEL") or "").splitlines()
            if line.startswith("Tag: ")]  # fmt: skip
    tag = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    wheel = folder / f"{re.sub('[-_.]+', '_', installed.name)}-{installed.version}-{tag}.whl"
    if wheel.exists():
        return wheel
    names = []
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in installed.files or ():
            if ".." not in file.parts and file.suffix != ".pyc" and file.name not in NOT_IN_WHEELS:
                archive.write(str(file.locate()), str(file))
                names.append(str(file))
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        record = metadata.replace("METADATA", "RECORD")
        archive.writestr(record, "".join(f'"{name}",,\n' for name in [*names, record]))
    return wheel
