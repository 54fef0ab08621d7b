"""Gets the peers ready, each once, under ${XDG_CACHE_HOME:-~/.cache}/aster/peers.

llama.cpp is built from the source that Aster is built from (ASTER_LLAMA_DIR, or the pinned one);
OpenVINO GenAI and matplotlib are installed with pip into virtual environments of their own. What is
there already is taken as it is. PrepareError's message is one line for a person.
"""

import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import machine

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import environment as environments  # noqa: E402
from environment import CACHE, ROOT, PrepareError, locked, logged, stamp  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
PEERS = CACHE / "peers"


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def injected(name):
    """The command in an environment variable, as a list; None where there is none."""
    return shlex.split(os.environ[name]) if os.environ.get(name) else None


def pins():
    """scripts/pins.sh as a dictionary."""
    lines = (ROOT / "scripts" / "pins.sh").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def llama_source():
    if os.environ.get("ASTER_LLAMA_DIR"):
        return pathlib.Path(os.environ["ASTER_LLAMA_DIR"]).resolve()
    pin = pins()
    source = CACHE / f"llama.cpp-{pin['LLAMA_VERSION']}"
    if not source.is_dir():
        logged([
            sys.executable, ROOT / "scripts" / "fetch_source.py", "--package", pin["LLAMA_PACKAGE"],
            "--version", pin["LLAMA_VERSION"], "--sha256", pin["LLAMA_SHA256"], "--member",
            pin["LLAMA_MEMBER"], "--to", source
        ], PEERS / "llama.cpp.log", "fetching llama.cpp")
    return source


def compiler_version():
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    try:
        return subprocess.run([*compiler, "--version"], stdout=subprocess.PIPE, text=True,
                              check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError):
        raise PrepareError(f"llama.cpp needs a C++ compiler: {compiler[0]} does not run") from None


def n_jobs():
    """All cores, but a gigabyte of memory for each compiler."""
    if os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL"):
        return int(os.environ["CMAKE_BUILD_PARALLEL_LEVEL"])
    gigabytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**9
    return max(1, min(len(os.sched_getaffinity(0)), gigabytes))


def llama():
    """Builds llama-bench and llama-quantize: (folder of both, version in words).

    A folder built for another CPU, compiler or source is built afresh; one cut off goes on.
    """
    folder, log = PEERS / "llama.cpp", PEERS / "llama.cpp.log"
    with locked(PEERS):
        source, compiler = llama_source(), compiler_version()
        recipe = (HERE / "CMakeLists.txt").read_text()
        cpu = [machine.cpuinfo().get(key) for key in ("model name", "flags", "Features")]
        identity = hashlib.sha256(repr((source, compiler, recipe, cpu)).encode()).hexdigest()
        version = f"{source.name}, {compiler}"
        if stamp(folder / ".ready") == identity:
            return folder / "bin", version
        begun = f"{identity} from {HERE}"  # CMake goes on with the same clone only
        if stamp(folder / ".begun") != begun:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / ".begun").write_text(begun)
        say(f"building llama.cpp's llama-bench in {folder}, once; this takes minutes")
        launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
        logged([
            "cmake", "-S", HERE, "-B", folder, f"-DASTER_LLAMA_DIR={source}",
            *(["-G", "Ninja"] if shutil.which("ninja") else []),
            *(launcher if shutil.which("ccache") else [])
        ], log, "configuring llama.cpp")
        logged([
            "cmake", "--build", folder, "-j",
            str(n_jobs()), "--target", "llama-bench", "llama-quantize"
        ], log, "building llama.cpp")
        (folder / ".ready").write_text(identity)
        return folder / "bin", version


def pinned_version(name, package):
    """The version that bench/peers/<name>.txt pins."""
    lines = (HERE / f"{name}.txt").read_text().split()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


def environment(name):
    """The python of the virtual environment of bench/peers/<name>.txt, made where there is none."""
    return environments.environment([HERE / f"{name}.txt"], PEERS, say)


def quantized(model, kind, threads):
    """The model requantised to kind (Q8_0, say), once: all engines then read the same weights."""
    with open(model, "rb") as file:
        identity = f"{file.seek(0, 2)} {hashlib.sha256(head_and_tail(file)).hexdigest()}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:8]
    target = PEERS / "models" / f"{model.stem}-{name}.{kind}.gguf"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    program = injected("ASTER_BENCH_LLAMA_QUANTIZE") or [str(llama()[0] / "llama-quantize")]
    say(f"requantising {model.name} to {kind}")
    logged([*program, "--allow-requantize",
            str(model), str(part), kind,
            str(threads)], PEERS / "quantize.log", f"requantising {model.name} to {kind}")
    part.rename(target)
    return target


def head_and_tail(file, n=1 << 20):
    """The first and last bytes of a file: enough to tell two models of one size apart."""
    file.seek(0)
    head = file.read(n)
    file.seek(max(0, file.seek(0, 2) - n))
    return head + file.read(n)
