"""Reads topics of results as any program could: `kafka_results.py BOOTSTRAP PREFIX TOPIC…`.

Reads each topic from its beginning to its present end with confluent-kafka, and prints a JSON list of records: topic, key,
the headers `id` and `table`, and the row.
"""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

bootstrap, prefix, *topics = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "results", "enable.auto.commit": False})
ends = {}
for topic in topics:
    low, high = consumer.get_watermark_offsets(TopicPartition(prefix + topic, 0), 10)
    if high > low:
        ends[prefix + topic] = high
consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in ends])
records = []
while ends:
    message = consumer.poll(30)
    if message is None:
        sys.exit(f"nothing more came, {ends} expected")
    if message.error():
        sys.exit(str(message.error()))
    headers = {name: value.decode() for name, value in message.headers()}
    topic = message.topic().removeprefix(prefix)
    records.append({"topic": topic, "key": message.key().decode(), "row": json.loads(message.value()), **headers})
    if message.offset() + 1 >= ends[message.topic()]:
        del ends[message.topic()]
print(json.dumps(records))
