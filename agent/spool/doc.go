// Package spool is the disk queue of an agent: what a record waits in until a collector says that it is in its database.
//
// A record gets its number when it is queued and is handed out only after the commit that made it durable. It leaves
// when it is acknowledged, or with a Gap record in the same commit that says what was given up and why. Small records
// live in one bbolt file, IQ chunks in append-only segment files beside it with their index in bbolt. Numbers count from
// 1 over all lanes and are never used twice under one identity; a file that cannot be trusted to go on counting gets a
// new identity.
//
// One goroutine, Run, owns the writing. DESIGN.md beside this file has the guarantee, the flow and the failure cases.
package spool
