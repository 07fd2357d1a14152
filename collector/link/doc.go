// Package link is the collector's side of MQTT: one session with a broker, and a small broker for those who have none.
//
// Client keeps a clean session with any MQTT 3.1.1 broker. It subscribes to what stations send, hands every message to
// one function that must not block, and publishes acknowledgements, commands and the collector's own status. A message
// is acknowledged to the broker when its receiver says so, which is after the database has committed it.
//
// Two collectors of one id would push each other out for ever; one of them notices and stands by (rival.go).
//
// Broker is an MQTT broker inside the process, for a collector that is started without any other server. Restrict has somebody
// judge who comes and what they do (access.go); without that whoever can reach its port may do everything, so it belongs on the
// loopback interface. It speaks MQTT 3.1.1 and
// tells clients of MQTT 5 so; every session is a clean one. It is mochi behind a guard: whole packets are checked before
// mochi decodes them, a client that does not take its messages misses some instead of holding the others up, and what
// one client can make it keep is bounded (packet.go, guest.go, door.go, listener.go). A hostile client can end its own
// connection, and that of the client whose name it takes, but neither the process nor anybody else's.
//
// Caveats:
//   - The acknowledgement to the broker is flow control, not proof of delivery. The proof is the Ack record that an
//     agent waits for (protocol/README.md), so nothing here tries to make a broker's queue durable.
//   - A message that arrives while a session ends is lost to this process and sent again by its agent.
package link
