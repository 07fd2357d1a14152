//go:build race

package survey_test

// noiseSeconds is short where the race detector makes every sample ten times dearer.
const noiseSeconds = 3
