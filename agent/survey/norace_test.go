//go:build !race

package survey_test

// noiseSeconds is how much noise must hold no emission.
const noiseSeconds = 60
