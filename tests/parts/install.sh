#!/usr/bin/env bash
# Installs what the real-parts and conformance tests talk to into target/parts: Node 22 with the MCP clients and servers
# and the conformance suite of npm, a Python environment with the MCP package, the Parquet readers and a Kafka client,
# Prometheus, and an Apache Kafka broker.
# Everything is pinned beside this script, or by the Debian release. Run it as often as you like: nothing is done when
# nothing changed.
# With the argument `kafka` it installs the broker alone.
# Missing system packages are installed with apt-get when root; otherwise it stops and names the command.
set -euo pipefail

cd "$(dirname "$0")/../.."
here=tests/parts
parts="${CARGO_TARGET_DIR:-target}/parts"
mkdir -p "$parts/bin"
parts="$(cd "$parts" && pwd)"

say() { printf 'tests/parts: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, or says how to.
system() {
  have apt-get || die "missing $*: install it with your system's package manager, then run $here/install.sh again"
  [ "$(id -u)" = 0 ] || die "missing $*: run 'sudo apt-get install -y $*', then $here/install.sh again"
  say "apt-get install $*"
  lists
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >&2
}

# Brings the package lists up to date, once per run.
lists() {
  [ -z "${lists_done:-}" ] || return 0
  [ "$(id -u)" != 0 ] || apt-get -qq -o DPkg::Lock::Timeout=300 update >&2
  lists_done=1
}

# True when program $2 is there and the stamp of part $1 says that it was made from exactly the files $3….
fresh() {
  local part=$1 program=$2
  shift 2
  [ -x "$program" ] && [ -f "$parts/$part.stamp" ] && cat "$@" | cmp -s - "$parts/$part.stamp"
}

# The last step of each part: a part without a stamp is made anew.
stamp() {
  local part=$1
  shift
  cat "$@" >"$parts/$part.stamp.new"
  mv "$parts/$part.stamp.new" "$parts/$part.stamp"
}

install_node() {
  local from="$here/node" to="$parts/node"
  rm -rf "$parts/node.stamp" "$to"
  mkdir -p "$to"
  have npm || system nodejs npm
  cp "$from/package.json" "$from/package-lock.json" "$to/"
  say "npm ci (Node 22, MCP clients and servers, the conformance suite)"
  (cd "$to" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
  local node="$to/node_modules/.bin/node"
  if [ ! -x "$node" ]; then
    # npm has no Node for this platform: the machine's own will do if it is new enough.
    node="$(command -v node)" || die "missing node: install Node 22 or newer, then run $here/install.sh again"
    "$node" -e 'process.exit(+process.versions.node.split(".")[0] < 22)' ||
      die "node $("$node" --version) is too old: install Node 22 or newer, then run $here/install.sh again"
  fi
  ln -sf "$(cd "$(dirname "$node")" && pwd)/$(basename "$node")" "$parts/bin/node"
  stamp node "$from/package.json" "$from/package-lock.json" "$here/install.sh"
}

install_python() {
  local to="$parts/python" python="${PYTHON:-python3}"
  rm -rf "$parts/python.stamp" "$to"
  have "$python" || system python3 python3-venv
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$python is no Python 3.11 or newer: install one and name it, as in PYTHON=python3.11 $here/install.sh"
  "$python" -c 'import ensurepip, venv' 2>/dev/null || system python3-venv
  say "pip install (MCP client and server, DuckDB, pyarrow, Polars, moto, a Kafka client)"
  "$python" -m venv "$to"
  "$to/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$here/python/requirements.txt" >&2
  "$to/bin/python" -m pip check >/dev/null
  stamp python "$here/python/requirements.txt" "$here/install.sh"
}

# Debian's package is unpacked, not installed: its service is of no use here.
install_prometheus() {
  local to="$parts/prometheus" program deb
  rm -rf "$parts/prometheus.stamp" "$to"
  if have prometheus && have promtool; then
    for program in prometheus promtool; do ln -sf "$(command -v $program)" "$parts/bin/$program"; done
  elif have apt-get && have dpkg-deb; then
    say "prometheus and promtool from Debian's package"
    mkdir -p "$to"
    lists
    (cd "$to" && apt-get -qq download prometheus >&2) ||
      die "cannot download Debian's prometheus: run 'sudo apt-get update' or 'sudo apt-get install -y prometheus', then $here/install.sh again"
    deb="$(echo "$to"/prometheus_*.deb)"
    dpkg-deb -x "$deb" "$to"
    rm "$deb"
    for program in prometheus promtool; do ln -sf "$to/usr/bin/$program" "$parts/bin/$program"; done
  else
    system prometheus
  fi
  "$parts/bin/promtool" --version >/dev/null 2>&1 || die "promtool does not start: install prometheus 2.42 or newer by hand"
  stamp prometheus "$here/install.sh"
}

# The broker is a directory of jars: no Docker, no service.
install_kafka() {
  local from="$here/kafka" to="$parts/kafka"
  rm -rf "$parts/kafka.stamp" "$to"
  mkdir -p "$to"
  have java || system openjdk-17-jre-headless
  have mvn || system maven
  say "mvn dependency:copy-dependencies (Apache Kafka)"
  mvn -q -B -f "$from/pom.xml" dependency:copy-dependencies -DoutputDirectory="$to/libs" -DincludeScope=runtime >&2 ||
    die "cannot fetch Apache Kafka with Maven: see above, then run $here/install.sh again, or set KAFKA_BOOTSTRAP to a broker that the tests may use"
  java -cp "$to/libs/*" kafka.tools.StorageTool random-uuid >/dev/null ||
    die "Apache Kafka does not start with $(java -version 2>&1 | head -1): install Java 17 or newer, then run $here/install.sh again"
  ln -sf "$(command -v java)" "$parts/bin/java"
  stamp kafka "$from/pom.xml" "$here/install.sh"
}

if [ "${1:-}" = kafka ]; then
  fresh kafka "$parts/bin/java" "$here/kafka/pom.xml" "$here/install.sh" || install_kafka
  exit 0
fi
fresh node "$parts/bin/node" "$here/node/package.json" "$here/node/package-lock.json" "$here/install.sh" || install_node
fresh python "$parts/python/bin/python" "$here/python/requirements.txt" "$here/install.sh" || install_python
fresh prometheus "$parts/bin/promtool" "$here/install.sh" || install_prometheus
fresh kafka "$parts/bin/java" "$here/kafka/pom.xml" "$here/install.sh" || install_kafka
# The scripts run from beside node_modules, where their imports are found; the sources stay in the tree.
for script in "$PWD/$here"/node/*.mjs; do ln -sf "$script" "$parts/node/"; done
say "ready in $parts"
