"""Docker: a build context with a Dockerfile whose image checks the artifact, then serves it with `exportkit serve`, not as root."""

import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from exportkit import manifest, requirements, store
from exportkit.bundle import Bundle
from exportkit.errors import LoadError

_TEMPLATE = Path(__file__).parents[1] / "templates" / "Dockerfile.txt"
_IMAGE = re.compile(r"[\w.:/@-]+", re.ASCII)
_WHEEL = re.compile(r"exportkit-[\w.+-]+\.whl", re.ASCII)
_REMOTE = re.compile(r"https://[^\s;#]+")


@dataclass(frozen=True, slots=True)
class Docker:
    """Writes TO/NAME with Dockerfile, requirements.txt and the artifact.

    Attributes:
        install: what pip installs as exportkit, which is not on PyPI yet: a wheel, which is copied along, or the https address of one.
        base: the image to build on; "" for this Python's own.
    """

    install: str = ""
    base: str = ""

    def deploy(self, bundle: Bundle, to: Path) -> tuple[str, ...]:
        wheel = None if _REMOTE.fullmatch(self.install) else Path(self.install)
        if wheel and not (_WHEEL.fullmatch(wheel.name) and wheel.is_file()):
            todo = "`pip wheel --no-deps .` in its clone makes one: --set install=FILE.whl, or install=https://..."
            raise LoadError("pip needs a wheel of exportkit, or its https address", where=f"--set install={self.install}", todo=todo)
        base = self.base or f"python:{platform.python_version()}-slim"
        if not _IMAGE.fullmatch(base):
            raise LoadError("is no name of an image", where=f"--set base={base}")
        place = f"artifacts/{bundle.name}"
        with bundle.stage(to, "docker") as staging:
            with store.stage(staging.folder / "artifacts", bundle.name) as inner:
                bundle.publish(inner)
            if wheel:
                shutil.copyfile(wheel, staging.folder / wheel.name)
            lines = [*requirements.pinned("serve"), f"./{wheel.name}" if wheel else f"exportkit @ {self.install}", ""]
            (staging.folder / "requirements.txt").write_text("\n".join(lines))
            files = f"requirements.txt {wheel.name}" if wheel else "requirements.txt"
            text = _TEMPLATE.read_text().replace("@BASE@", base).replace("@FILES@", files).replace("@FOLDER@", place)
            (staging.folder / "Dockerfile").write_text(text)
            staging.publish(bundle.content("docker", f"{place}/"), {"host": manifest.host()})
        folder = to / bundle.name
        return str(folder), f"then: docker build -t {bundle.name.lower()} {folder}"


PLUGIN = Docker()
