// Package accounts says who may do what at the broker, and makes the broker know it.
//
// What an identity may publish and subscribe is written down once (rules.go). Three backends are made from it: Embedded
// judges inside the process, for the embedded broker; Dynsec speaks to Mosquitto's dynamic-security plug-in; Files writes
// Mosquitto's acl_file and password_file for brokers that read such files. The table account of the store is the truth, and a
// backend is made to agree with it at the start, after each new connection to the broker, and at each change.
//
// A Keeper changes the table and then the broker. It never keeps a password: the table has a hash in Mosquitto's form, and a
// broker that lost its own accounts gets those that log in by certificate back, while passwords have to be given anew.
package accounts
