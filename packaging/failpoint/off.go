//go:build !faults

package failpoint

// Hit marks a place.
func Hit(string) {}
