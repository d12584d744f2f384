#!/usr/bin/env bash
# Make .venv with everything mmpanoptic needs. Usage: tools/dev/setup_env.sh [runtime|search|tests]
# A second run with unchanged requirements does nothing. PYTHON=... chooses the interpreter.
set -euo pipefail

level="${1:-runtime}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
venv="$root/.venv"
stamp="$venv/.mmpanoptic-$level"
solver="$root/mmpanoptic/ops/amwc"  # C++ sources: a changed one is compiled again

fail() {
    echo "set-up: $1" >&2
    echo "        $2" >&2
    exit 1
}

recent_python() {  # prints the first interpreter that is new enough
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

compiler() {  # prints the C++ compiler, if there is one; installing one later makes a difference
    command -v "${CXX:-c++}" || command -v g++ || command -v clang++ || true
}

fingerprint() {
    cat "$root"/requirements/*.txt "$root/setup.py" "$root/pyproject.toml" "$solver"/*.h \
        "$solver"/*.cpp | cksum
    echo "$root $("$venv/bin/python" -V) $(compiler)"
}

if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(fingerprint)" = "$(cat "$stamp")" ]; then
    echo "set-up: .venv is up to date"
    exit 0
fi

python="$(recent_python)"
[ -n "$python" ] || fail "no Python >= 3.10 found" \
    "Install one (Debian: apt-get install python3 python3-venv) or name it: PYTHON=/path/to/python3 make venv"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module" \
    "Install it (Debian: apt-get install python3-venv), then run the command again"
[ -n "$(compiler)" ] || echo \
    "set-up: no C++ compiler found: COPS will lack its AMWC solver, everything else works (Debian: apt-get install g++)" >&2

# A half-made environment has no pip; make it anew. A complete one is kept.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "set-up: making $venv with $("$python" -V)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" \
        2> >(grep -v '^WARNING: Location' >&2) || fail "pip could not install: $*" \
        "See the lines above; often the network or a proxy. The command can be run again."
}

constraints="$root/requirements/constraints.txt"
state="$("$venv/bin/python" - <<'PY'
try:
    import torch
except ImportError:
    print("absent")
else:
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    print("ok" if (major, minor) >= (2, 6) else torch.__version__)
PY
)"
case "$state" in
    ok) ;;
    absent)
        wanted="$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$constraints")"
        echo "set-up: installing $wanted"
        pip_install "$wanted"
        ;;
    *) fail "torch $state is too old; mmpanoptic needs torch >= 2.6 and never replaces yours" \
        "Upgrade it in .venv, or remove .venv and run the command again" ;;
esac

# What is known to fail beside each other is refused before anything is changed (docs/get_started.md).
refused="$("$venv/bin/python" - <<'PY'
from importlib.metadata import distributions

found = {(d.metadata["Name"] or "").lower().replace("_", "-"): d.version for d in distributions()}
forks = sorted(name for name in found if name.startswith("onedl-mm"))
mmcv = found.get("mmcv")
if forks:
    print(f"{', '.join(forks)} in .venv would share its folders with mmengine, mmcv and mmdet|"
          "Remove it (pip uninstall), or make an environment of your own: docs/get_started.md, Versions")
elif mmcv and tuple(map(int, mmcv.split(".")[:2])) >= (2, 2):
    print(f"mmdet 3.3.0 refuses mmcv {mmcv}, which is in .venv|"
          "Remove it (pip uninstall mmcv); the set-up takes mmcv-lite 2.1.0, or compile mmcv==2.1.0")
elif mmcv and "mmcv-lite" in found:
    print("mmcv and mmcv-lite are both in .venv and share one folder|"
          "Remove both (pip uninstall mmcv mmcv-lite) and install the one that you want")
else:
    print("full" if mmcv else "ok")
PY
)"
case "$refused" in ok | full) ;; *) fail "${refused%%|*}" "${refused#*|}" ;; esac

# torch is in the environment now; the constraint on it would only hinder another build of it.
others="$venv/constraints-without-torch.txt"
grep -v '^torch==' "$constraints" > "$others"
echo "set-up: installing the OpenMMLab packages and mmpanoptic"
runtime="$root/requirements/runtime.txt"
if [ "$refused" = full ]; then  # mmcv-lite would write over it
    grep -v '^mmcv-lite' "$runtime" > "$venv/runtime.txt"
    runtime="$venv/runtime.txt"
fi
arguments=(-r "$runtime")
[ "$level" = runtime ] || arguments+=(-r "$root/requirements/search.txt")
[ "$level" = tests ] && arguments+=(-r "$root/requirements/tests.txt")
pip_install -c "$others" "setuptools<82" wheel pybind11 "${arguments[@]}"
if [ "$level" = tests ]; then
    pip_install --no-deps -r "$root/requirements/judges.txt"
fi
# Compiled NMS, RoIAlign and deformable convolution. Next to a CPU build they would cost more to fetch than they bring.
# Without its dependencies: no other torch may take the place of this one.
torchvision="$("$venv/bin/python" - <<'PY'
from importlib.util import find_spec

import torch

if torch.version.cuda and find_spec("torchvision") is None:
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if major == 2:  # torchvision 0.15 belongs to torch 2.0, and so on
        print(f"torchvision==0.{minor + 15}.*")
PY
)"
if [ -n "$torchvision" ]; then
    echo "set-up: installing $torchvision next to torch for CUDA"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$torchvision" || echo \
        "set-up: no $torchvision to be had; the operators run in PyTorch, which is slower (docs/operators.md)" >&2
fi
pip_install --no-deps --no-build-isolation -e "$root"
"$venv/bin/python" -c 'from mmpanoptic.ops.amwc import is_available; raise SystemExit(not is_available())' \
    || echo "set-up: the AMWC solver was not built (a compiler's words: pip install -v --no-build-isolation" \
    "--no-deps -e '$root'); COPS needs it, everything else works" >&2
fingerprint > "$stamp"
[ "$level" = runtime ] || fingerprint > "$venv/.mmpanoptic-runtime"
[ "$level" != tests ] || fingerprint > "$venv/.mmpanoptic-search"
echo "set-up: done; activate it with: source .venv/bin/activate"
