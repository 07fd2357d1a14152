// Package prometheus holds the alert rules, and the page that lists all metrics.
package prometheus

import (
	_ "embed"
	"regexp"
	"strings"
)

//go:embed METRICS.md
var page string

var described = regexp.MustCompile(`# HELP (\w+) (.+)\n# TYPE \w+ (\w+)\n`)

// MissingFromPage are the lines that the page should have, by what a program exposes, and does not. Tests of the programs ask.
func MissingFromPage(exposed string) (missing []string) {
	for _, m := range described.FindAllStringSubmatch(exposed, -1) {
		if line := "| `" + m[1] + "` | " + m[3] + " | " + m[2] + " |\n"; !strings.Contains(page, line) {
			missing = append(missing, line)
		}
	}
	return missing
}
