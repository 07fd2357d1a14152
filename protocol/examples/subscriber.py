#!/usr/bin/python3
"""Prints each detection of all stations."""
import json, os
from paho.mqtt import subscribe

def show(client, userdata, message):
    record = json.loads(message.payload)
    found = record["detection"]
    print(record["time"], record["station"], round(found["center_hz"] / 1e6, 4), "MHz, SNR", found.get("snr_db"), "dB", flush=True)

subscribe.callback(show, "heimdall/v1/+/json/detection", hostname=os.environ["MQTT_HOST"], port=int(os.environ["MQTT_PORT"]),
                   auth={"username": os.environ["MQTT_USER"], "password": os.environ["MQTT_PASSWORD"]}, tls={"ca_certs": os.environ["MQTT_CA"]})
