// Package protocol is what agents and collectors say to one another: the messages of heimdall.proto, their protobuf
// and JSON forms, the MQTT topics they travel on, the checks a receiver of them makes, and SigMF metadata.
//
// Conventions. Every scalar is optional: absent is unknown, never zero. Times are UTC in nanoseconds. A name ends in
// its unit. Full scale is 1.0, and a full-scale complex tone is 0 dBFS. Fields are only ever added.
//
// Everything that reads outside bytes is bounded (limits.go), and answers bad ones with an *Error that names the
// field, the value and the mend; it never panics. README.md is the same contract for people who write a client in
// another language.
//
// Caveats. A decoded record is not yet a valid one: Decode proves the form, Validate the content. Records are equal
// when their Digest is; comparing generated structs with == or reflect.DeepEqual is not reliable.
package protocol

//go:generate go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative heimdall.proto
