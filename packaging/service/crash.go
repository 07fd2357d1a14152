package service

import "runtime/debug"

// crashBySignal has a panic, and the signal of a watchdog, end the program by a signal after they have said what each goroutine did.
// Go ends it with exit code 2 otherwise, on which services are not started again.
func crashBySignal() { debug.SetTraceback("crash") }
