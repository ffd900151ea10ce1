"""Reports on a topic as any producer could: `kafka_reports.py BOOTSTRAP TOPIC`, one record for each line of its input."""

import sys

from confluent_kafka import Producer

bootstrap, topic = sys.argv[1:]
failed = []
producer = Producer({"bootstrap.servers": bootstrap})
for line in sys.stdin:
    producer.produce(topic, line.rstrip("\n"), on_delivery=lambda error, _: error and failed.append(str(error)))
left = producer.flush(30)
if failed or left:
    sys.exit(f"{left} records were not delivered, {failed}")
