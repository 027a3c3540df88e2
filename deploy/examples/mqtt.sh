#!/bin/sh
# Events by MQTT with mosquitto's own client: ./mqtt.sh 127.0.0.1 1883 linewatch/plant-a/line-1
# With a user: put `--username` and `--pw` into ~/.config/mosquitto_sub, never on a command line.
set -eu
exec mosquitto_sub -h "$1" -p "$2" -q 1 -i "example-$$" -v -t "$3/availability" -t "$3/+/state" -t "$3/+/events/#"
