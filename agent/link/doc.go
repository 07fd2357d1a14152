// Package link is an agent's session with its MQTT broker: records go out, acknowledgements and orders come in.
//
// The MQTT client is only a pipe. What is on its way, when it is sent again and when to connect again is decided here,
// because the client's tokens prove nothing: a PUBACK says that a broker has a message, not that any disk has. A record
// is done when a collector's Ack names it (or at the PUBACK, where the configuration says that there is no collector).
//
//   - Each connection is a new client with a clean session and no store; nothing is left to it from the last one.
//   - Under the client lies a connection of our own. It lets in no packet larger than any of ours, for which the client would
//     make room at once: of a message it drops the payload, as a retained one would come again on each connection. And it
//     decides when the other end is gone: after a silence in which the slowest link would have brought an answer to all that
//     was sent.
//   - Where another agent under the same id pushes this one out again and again, it makes sure of that and stays away for a
//     while.
//   - Messages on their way are bounded in number and bytes, and in bytes also to what five seconds carry.
//   - While a collector is online, what it does not acknowledge is sent again, ever more slowly. While none is, every
//     record is sent once and held.
//   - A record that alone stays unacknowledged while later ones are is sent by itself, and in the end given up with a
//     Gap: one poisonous record never blocks the others. A collector that acknowledges nothing never leads to that.
package link
