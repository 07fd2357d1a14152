// Package configs reads Heimdall's configuration files and holds the shipped examples.
//
// A file is YAML. Reading is strict: an unknown key, a repeated key or a value of the wrong kind is a fault, and all
// faults of a file are reported at once, each with file, line, column, key, value and what to write instead. Quantities are
// read as people write them: 145.5M, 12.5k, 250ms, 2GiB.
package configs
