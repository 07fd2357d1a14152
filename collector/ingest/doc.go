// Package ingest takes what stations send and sees it into the database: decode, check, batch, commit, acknowledge.
//
// Receive takes a message and never blocks. Messages wait in one queue a station, bounded in bytes, and the stations
// take turns, so that one of them cannot keep the others waiting. Records of many messages are committed together: at
// once when the database is idle, and as it gets busy in batches that grow with the time it needs. Only after the commit
// is the Ack of each spool published and each message acknowledged to the broker, and then the observers are told which
// records were new.
//
// What cannot become a record (undecodable, invalid, of another station, refused by the database) is committed as a
// rejection with its reason and acknowledged like the others: it never blocks them.
//
// Caveats:
//   - A message that does not fit its station's queue is dropped, and counted. Nothing is lost: its sender has no Ack for
//     it and sends it again.
//   - A message that waits only because its station exceeds its rate is acknowledged to the broker early, so that its
//     place in the broker's window goes to others. The agent's proof is the Ack, which still follows the commit.
//   - While the database fails nothing else is acknowledged, and what waits stays within the memory limit.
//
// DESIGN.md says why, and what happens in which failure.
package ingest
