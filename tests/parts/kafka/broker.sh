#!/usr/bin/env bash
# Runs one Apache Kafka broker on 127.0.0.1:9092 in the foreground, to try the log on Kafka: `make kafka`. Its records are
# in data/kafka. Not for production: one copy of everything, no access control.
set -euo pipefail

cd "$(dirname "$0")/../../.."
parts="$(cd "${CARGO_TARGET_DIR:-target}/parts" && pwd)"
port="${KAFKA_PORT:-9092}"
mkdir -p data/kafka
data="$(cd data/kafka && pwd)"

cat >"$data/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$data/records
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
PROPERTIES

kafka() { java -Xmx400m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$parts/kafka/libs/*" "$@"; }
[ -f "$data/records/meta.properties" ] ||
  kafka kafka.tools.StorageTool format -t "$(kafka kafka.tools.StorageTool random-uuid)" -c "$data/server.properties"
printf 'Apache Kafka on 127.0.0.1:%s, until Ctrl-C\n' "$port" >&2
exec java -Xmx400m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$parts/kafka/libs/*" \
  kafka.Kafka "$data/server.properties"
