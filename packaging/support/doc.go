// Package support makes the text that a person pastes when asking for help: parts that each have a time limit and may fail, and
// of which nothing gets out but through one filter, which hides secrets and the exact place of the station.
package support
