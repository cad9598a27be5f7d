#!/bin/sh
# Makes .venv ready: `sh tools/setup.sh base` to run nerite, `dev` to test it as well.
# The Makefile calls this before every command, so it must cost nothing when all is in place.
set -eu
cd "$(dirname "$0")/.."

kind=${1:-base}
venv=.venv
log=$venv/setup.log
halfway=$venv/.halfway # there while pip works: what it leaves when killed cannot be trusted
want="$PWD $(cat pyproject.toml constraints.txt tools/setup.sh | cksum)"

case $kind in
base) stamps="base dev" extras='' mb=80 ;;
dev) stamps="dev" extras='[dev]' mb=600 ;;
*) echo "usage: tools/setup.sh base|dev" >&2 && exit 2 ;;
esac

fail() {
    printf '%s\n' "nerite: $1" >&2
    exit 1
}

ready() {
    [ -x $venv/bin/python ] && [ ! -e $halfway ] || return 1
    for stamp in $stamps; do
        if [ -f $venv/.$stamp ] && read -r have <$venv/.$stamp && [ "$have" = "$want" ]; then
            return 0
        fi
    done
    return 1
}

find_python() {
    for name in ${PYTHON:-} python3.14 python3.13 python3.12 python3.11 python3 python; do
        # Running it is the test: version managers put shims on the path that run nothing.
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

no_python() {
    if found=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null); then
        fail "Python 3.11 or newer is needed, and python3 here is $found; name another with PYTHON=/path/to/python3."
    fi
    fail "Python 3.11 or newer is needed, and no python3 was found on the path."
}

make_venv() {
    python=$(find_python) || no_python
    rm -rf $venv
    mkdir $venv && : >$halfway
    "$python" -m venv $venv >$log 2>&1 && return 0
    if grep -q -e ensurepip -e 'No module named venv' $log; then
        rm -rf $venv
        fail "$python has no venv module; on Debian and Ubuntu install it with: apt install python3-venv"
    fi
    fail "$python could not make $venv: $(tail -n 1 $log)"
}

explain() {
    if grep -q -i -e 'No space left' $log; then
        fail "the disk is full: pip could not install the packages into $venv."
    fi
    if grep -q -i -e 'Failed to establish a new connection' -e 'Temporary failure in name' \
        -e 'connection broken by' -e 'Could not fetch URL' -e 'Read timed out' \
        -e 'from versions: none' $log; then
        fail "the packages could not be downloaded; check the network or proxy and try again (see $log)."
    fi
    reason=$(grep '^ *ERROR:' $log | head -n 1)
    fail "pip could not install the packages: ${reason:-unknown reason} (see $log)"
}

wait_for() {
    began=$(date +%s)
    while kill -0 "$1" 2>/dev/null; do
        [ -t 2 ] && printf '\r%s %ss ' "$line" $(($(date +%s) - began)) >&2
        sleep 0.2
    done
}

install() {
    : >$halfway
    line="nerite: setting up $venv (about $mb MB to download, only once) ..."
    printf '%s' "$line" >&2
    began=$(date +%s)
    $venv/bin/python -m pip install --prefer-binary --no-compile --disable-pip-version-check \
        --no-input --progress-bar off --constraint constraints.txt \
        --editable ".$extras" >$log 2>&1 &
    pip=$!
    trap 'kill $pip 2>/dev/null; echo >&2; exit 130' INT TERM
    wait_for $pip
    if ! wait $pip; then
        echo >&2
        explain
    fi
    trap - INT TERM
    if [ -t 2 ]; then printf '\r%s' "$line" >&2; fi
    echo " done in $(($(date +%s) - began)) s" >&2
    rm -f $venv/.base $venv/.dev
    printf '%s\n' "$want" >$venv/.$kind
    rm -f $halfway
}

if ! ready; then
    if [ ! -x $venv/bin/python ] || [ -e $halfway ]; then make_venv; fi
    install
fi
