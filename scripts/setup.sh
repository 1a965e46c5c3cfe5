#!/bin/sh
# Install what Quire needs: setup.sh [build|run|test|bench].  build: compiler and build tools; run: also
# QEMU and the programs of the tour; test: also everything that the tests use; bench: rivals of the benchmarks.  Takes milliseconds when nothing is
# missing.  Knows Debian and its derivatives; elsewhere it says what to install.
set -eu

# A line: group, Debian package, and a command or an absolute path that shows it is there.
wanted='
build gcc              gcc
build libc6-dev        /usr/include/stdlib.h
build binutils         nm
build make             make
build meson            meson
build ninja-build      ninja
build pkg-config       pkg-config
build libcmocka-dev    /usr/include/cmocka.h
build python3          /usr/bin/python3
run   qemu-system-x86  qemu-system-x86_64
run   busybox-static   busybox
run   bash             bash
run   coreutils        sha256sum
run   sqlite3          sqlite3
run   perl             /usr/share/perl
test  clang            clang
test  clang-format     clang-format
test  clang-runtime    clang-runtime
test  git              git
test  cpio             cpio
test  patch            patch
test  musl-tools       musl-gcc
test  numactl          numactl
test  redis-server     redis-server
test  redis-tools      redis-benchmark
test  python-tests     python-tests
bench libjemalloc2     /usr/lib/x86_64-linux-gnu/libjemalloc.so.2
bench libmimalloc2.0   /usr/lib/x86_64-linux-gnu/libmimalloc.so.2.0
bench libtcmalloc-minimal4 /usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4
'

group=${1:-test}
case $group in
build) groups=build ;;
run) groups='build run' ;;
test) groups='build run test' ;;
bench) groups=bench ;;
*)
    echo "usage: $0 [build|run|test|bench]" >&2
    exit 2
    ;;
esac

# clang's run-time library for sanitizers and fuzzers is a package of its own in newer releases
have_clang_runtime() {
    for f in /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a; do
        [ ! -e "$f" ] || return 0
    done
    return 1
}

# Python's own tests: a package whose name has the version
have_python_tests() {
    /usr/bin/python3 -c 'import test.test_json, test.test_re, test.test_threading' >/dev/null 2>&1
}

have() {
    case $1 in
    python-tests) have_python_tests ;;
    clang-runtime) have_clang_runtime ;;
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing=
while read -r g package sign; do
    [ -n "$g" ] || continue
    case " $groups " in
    *" $g "*) have "$sign" || missing="$missing $package" ;;
    esac
done <<END
$wanted
END
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Quire needs these (Debian's package names); please install them and try again:" >&2
    echo "   $missing" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "Not root, and no sudo.  Please run as root:  apt-get install$missing" >&2
    exit 1
fi

echo "setup: installing$missing"
$as_root apt-get update -q
case " $missing " in
*' clang-runtime '*)
    version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\).*/\1/p' | head -n 1)
    if apt-cache show "libclang-rt-$version-dev" >/dev/null 2>&1; then
        runtime=libclang-rt-$version-dev
    else
        runtime=libclang-common-$version-dev
    fi
    missing=$(echo "$missing" | sed "s/clang-runtime/$runtime/")
    ;;
esac
case " $missing " in
*' python-tests '*)
    version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    missing=$(echo "$missing" | sed "s/python-tests/libpython$version-testsuite/")
    ;;
esac
# redis-server would start a daemon: forbid it for the time of the installation
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod +x $policy
    trap '$as_root rm -f $policy' EXIT
fi
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -q -y --no-install-recommends $missing
# what was just installed is found only by a fresh configuration of the build
touch "$(dirname "$0")/../meson.build"
