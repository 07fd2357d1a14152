// Package link is the collector's side of MQTT: one session with a broker, and a small broker for those who have none.
//
// Client keeps a clean session with any MQTT 3.1.1 broker. It subscribes to what stations send, hands every message to
// one function that must not block, and publishes acknowledgements, commands and the collector's own status. A message
// is acknowledged to the broker when its receiver says so, which is after the database has committed it.
//
// Broker is an MQTT broker inside the process, for a collector that is started without any other server. It has no
// accounts: whoever can reach its port may publish, so it belongs on the loopback interface.
//
// Caveats:
//   - The acknowledgement to the broker is flow control, not proof of delivery. The proof is the Ack record that an
//     agent waits for (protocol/README.md), so nothing here tries to make a broker's queue durable.
//   - A message that arrives while a session ends is lost to this process and sent again by its agent.
package link
