"""Ways to systems that don't read Redis: each bridge is one consumer group of the event stream.

sink.py       what a bridge's type is: one small protocol, found by entry point (`linewatch.sinks`)
process.py    `linewatch bridge NAME`: one bridge from its settings until it is stopped
lanes.py      event → sink, in order for each camera; settled after the side effect
webhook.py · mqtt.py · modbus.py · opcua.py    the types that come with Linewatch
"""
