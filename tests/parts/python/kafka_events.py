"""Reads the events of a topic as any program could: `kafka_events.py BOOTSTRAP TOPIC PROTO_DIR`.

Compiles the project's .proto, reads the topic from its beginning to its present end with confluent-kafka, and prints a
JSON list: partition, offset, key, and what of the event its other readers need.
"""

import importlib
import json
import pathlib
import sys
import tempfile

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from grpc_tools import protoc

bootstrap, topic, proto = sys.argv[1:]
made = tempfile.mkdtemp()
source = pathlib.Path(proto) / "undercurrent" / "v1" / "event.proto"
if protoc.main(["protoc", f"-I{proto}", f"--python_out={made}", str(source)]) != 0:
    sys.exit(f"{source} does not compile")
sys.path.insert(0, made)
Event = importlib.import_module("undercurrent.v1.event_pb2").Event

consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
partitions = consumer.list_topics(topic, 10).topics[topic].partitions
ends = {}
for partition in partitions:
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)
    if high > low:
        ends[partition] = high
consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])
rows = []
while ends:
    message = consumer.poll(30)
    if message is None:
        sys.exit(f"nothing more came, {ends} expected")
    if message.error():
        sys.exit(str(message.error()))
    event = Event.FromString(message.value())
    rows.append(
        {
            "partition": message.partition(),
            "offset": message.offset(),
            "key": (message.key() or b"").decode(),
            "session_id": event.session_id,
            "id": [event.id.gateway, event.id.epoch, event.id.sequence],
            "body": event.WhichOneof("body"),
            "method": event.message.method,
        }
    )
    if message.offset() + 1 >= ends[message.partition()]:
        del ends[message.partition()]
consumer.close()
json.dump(rows, sys.stdout)
