package main

import (
	"fmt"
	"time"
)

// How long a part may be at one piece of work. Whatever waits for the world (a receiver, a broker, a disk that takes no commit)
// is not at work.
const (
	longestBlock  = time.Minute
	longestCommit = 10 * time.Minute // of a large spool that is written anew on a slow card
)

// stuck names what has stopped working for a reason of its own, which a new start mends; empty when nothing has. A part that holds
// its lock for ever holds stuck, too.
func (a *Agent) stuck() string {
	a.condition()
	for _, r := range a.receivers {
		if r.survey.Working() > longestBlock {
			return fmt.Sprintf("the survey of receiver %s has been at one block for over %s", r.cfg.ID, longestBlock)
		}
	}
	if a.spool.Working() > longestCommit {
		return fmt.Sprintf("the spool has been at one commit for over %s", longestCommit)
	}
	return ""
}

// summary is the state in a line, for who looks at the service.
func (a *Agent) summary(is condition) string {
	text := is.word
	if is.reason != "" {
		text += ": " + is.reason
	}
	if waiting := a.spool.Stats().Records + int64(a.publisher.held.size()); waiting > 0 {
		text += fmt.Sprintf("; %d records wait", waiting)
	}
	return text
}
