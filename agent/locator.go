package main

import (
	"fmt"
	"math"
	"strings"
)

// locatorSteps are the pairs of a Maidenhead locator: the first character of each kind, how many there are, and the degrees of
// longitude that each is wide (latitude: half of it).
var locatorSteps = []struct {
	first  byte
	count  int
	degree float64
}{
	{'A', 18, 20}, {'0', 10, 2}, {'A', 24, 2.0 / 24}, {'0', 10, 2.0 / 240},
}

const metresPerDegree = 111_195 // of latitude

// parseLocator is the middle of a locator's square, and how far its corners are away.
func parseLocator(text string) (*PositionConfig, error) {
	square := strings.ToUpper(text)
	if len(square) < 4 || len(square) > 8 || len(square)%2 != 0 {
		return nil, fmt.Errorf("%q: want a locator of 4, 6 or 8 characters, such as JN35ua, or latitude and longitude", text)
	}
	lon, lat, width := -180.0, -90.0, 0.0
	for k, step := range locatorSteps[:len(square)/2] {
		x, y := int(square[2*k])-int(step.first), int(square[2*k+1])-int(step.first)
		if x < 0 || y < 0 || x >= step.count || y >= step.count {
			return nil, fmt.Errorf("%q: %q is not in a locator; one looks like JN35ua", text, text[2*k:2*k+2])
		}
		lon, lat, width = lon+float64(x)*step.degree, lat+float64(y)*step.degree/2, step.degree
	}
	lon, lat = lon+width/2, lat+width/4
	corner := math.Ceil(metresPerDegree * math.Hypot(width/2*math.Cos(lat*math.Pi/180), width/4))
	return &PositionConfig{Lat: round(lat, 1e6), Lon: round(lon, 1e6), UncertaintyM: &corner}, nil
}
