//! The listener with clients that others wrote: rumqttc, mosquitto_pub and mosquitto_sub, paho-mqtt, mqtt.js.
//!
//! Python and node are looked for (`FROND_PYTHON`, `FROND_NODE`; `NODE_PATH` tells node where mqtt.js is). A test whose client
//! is not on this machine says so and is left out.

mod library;
mod mosquitto;
mod scripts;
mod security;
