"""Build script: the wheel carries configs and tools as ``mmpanoptic/.mim``, as mmdet's does."""

import gzip
import os
import re
import shutil
import sys
import tarfile
import zlib
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

try:
    import pybind11
except ImportError:  # the package works without its compiled solver
    pybind11 = None

ROOT = Path(__file__).parent.resolve()
SHIPPED = ("configs", "tools")
INDEX = "model-index.yml"
AMWC = Path("mmpanoptic", "ops", "amwc")  # relative: setuptools refuses absolute sources


def read_version():
    text = (ROOT / "mmpanoptic" / "version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.+)"', text).group(1)


def read_requirements(name):
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    stripped = (line.split("#")[0].strip() for line in lines)
    return [line for line in stripped if line]


class BuildWithConfigs(build_py):
    """Copy configs and tools into the package; an editable install reads them from the clone."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "mmpanoptic" / ".mim"
        shutil.rmtree(target, ignore_errors=True)
        for folder in SHIPPED:
            shutil.copytree(
                ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / INDEX, target)


def warn_of_missing_solver(reason):
    sys.stderr.write(
        f"WARNING: the AMWC solver was not built ({reason}). COPS needs it; everything else works. "
        "Install a C++17 compiler and pybind11, then install mmpanoptic again.\n"
    )


def warn_of_missing_runs(reason):
    sys.stderr.write(
        f"WARNING: the pass over panoptic PNGs was not compiled ({reason}). NumPy does the same, "
        "three times slower.\n"
    )


class BuildExtensions(build_ext):
    """Compile the AMWC solver and the pass over colours with the flags of the compiler at hand."""

    # The published solver's sums are reproduced only if a * b + c is not fused. Without debug
    # information (-g0) the folder of the build leaves no trace: two builds are equal.
    GNU = ("-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-pthread", "-ffp-contract=off")
    MSVC = ("/std:c++17", "/O2", "/EHsc")

    def build_extension(self, ext):
        gnu = self.compiler.compiler_type != "msvc"
        solver = ext.language == "c++"
        if solver:
            ext.extra_compile_args = list(self.GNU if gnu else self.MSVC)
            ext.extra_link_args = ["-pthread"] if gnu else []
        else:
            ext.extra_compile_args = ["-O3", "-g0"] if gnu else ["/O2"]
        try:
            super().build_extension(ext)  # setuptools passes over a failure: ext is optional
        finally:
            if not Path(self.build_lib, self.get_ext_filename(ext.name)).exists():
                warn = warn_of_missing_solver if solver else warn_of_missing_runs
                warn("there is no working compiler")


class ReproducibleArchive(sdist):
    """Write the source archive with the time of ``SOURCE_DATE_EPOCH``, sorted, and owned by nobody.

    Wheels are so by themselves.
    """

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **more):
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if format != "gztar" or epoch is None:
            return super().make_archive(base_name, format, root_dir, base_dir, **more)

        def settle(entry):
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = int(epoch), 0, 0, "", ""
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            return entry

        name = f"{base_name}.tar.gz"
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(os.path.join(root_dir or "", base_dir), base_dir, filter=settle)
        return name


RUNS = Extension("mmpanoptic.structures._runs", ["mmpanoptic/structures/_runs.c"], optional=True)


def solver_extension():
    """The AMWC solver, stamped with a checksum of its sources so that an old build is noticed."""
    if pybind11 is None:
        warn_of_missing_solver("pybind11 is absent")
        return []
    sources = sorted([*(ROOT / AMWC).glob("*.h"), *(ROOT / AMWC).glob("*.cpp")])
    checksum = zlib.crc32(b"".join(path.read_bytes() for path in sources))
    return [
        Extension(
            "mmpanoptic.ops.amwc._solver",
            [(AMWC / "bindings.cpp").as_posix()],
            depends=[(AMWC / path.name).as_posix() for path in sources],
            include_dirs=[pybind11.get_include()],
            define_macros=[("MMPANOPTIC_AMWC_SOURCES", f'"{checksum:08x}"')],
            language="c++",
            optional=True,
        )
    ]


setup(
    name="mmpanoptic",
    version=read_version(),
    description="Panoptic segmentation toolbox in the OpenMMLab style",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=("mmpanoptic", "mmpanoptic.*")),
    package_data={
        "mmpanoptic": [
            "**/*.json",
            "**/*.yml",
            "**/*.pyi",
            "visualization/templates/*",
            "py.typed",
            "checkpoints/shipped/*/weights.pth",
        ]
    },
    entry_points={"console_scripts": ["mmpanoptic = mmpanoptic.commands:main"]},
    ext_modules=[RUNS, *solver_extension()],
    install_requires=read_requirements("runtime"),
    extras_require={
        "torch": ["torch>=2.6"],
        "runtime": read_requirements("onnx_runtime"),
        "optional": read_requirements("optional"),
        "transformers": read_requirements("transformers"),
        "formats": read_requirements("formats"),
        "search": read_requirements("search"),
        "shards": read_requirements("shards"),
        "ray": read_requirements("ray"),  # not in "all": 160 MB for one example
        "web": read_requirements("web"),
        "all": [
            line
            for name in ("optional", "formats", "search", "shards", "transformers", "web")
            for line in read_requirements(name)
        ],
        "tests": read_requirements("tests"),
        "docs": read_requirements("docs"),
    },
    cmdclass={
        "build_py": BuildWithConfigs,
        "build_ext": BuildExtensions,
        "sdist": ReproducibleArchive,
    },
    zip_safe=False,
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
