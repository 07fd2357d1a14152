// Package failpoint names the places in both programs where a power cut would hurt most, so that a test can end a process
// exactly there. A program built without the tag faults has nothing of it: Hit is empty and is inlined away.
//
// A program built with it reads HEIMDALL_FAILPOINT once: place:n, with n from 1. At the n-th Hit of that place it ends by
// SIGKILL: nothing deferred runs, nothing is flushed.
package failpoint
