// Package service is how the two programs live under a service manager: the units that packages ship and `service install`
// writes, what a program tells systemd while it runs, what its log looks like in the journal, and where secrets come in.
//
// Everything here does nothing where no service manager is.
package service
