// Package demo holds the scene that heimdall-collector demo plays, and the stations in it.
package demo

import (
	"bytes"
	_ "embed"
)

//go:embed scene.yaml
var scene []byte

// Scene is the scene file; every call returns a fresh copy.
func Scene() []byte { return bytes.Clone(scene) }

// Seed is that of the scene: all who play it hear the same.
const Seed = 7

// Station is one station of the scene.
type Station struct {
	ID, Name                  string
	LatitudeDeg, LongitudeDeg float64
	HeightM                   float64
}

// Stations are the scene's stations in the order in which the demo shows them.
func Stations() []Station {
	return []Station{
		{"giaveno", "Aquila di Giaveno", 45.03, 7.27, 600},
		{"montanaro", "Montanaro", 45.234, 7.857, 210},
		{"torino", "Torino", 45.044, 7.672, 250},
		{"coazze", "Coazze", 45.03, 7.27, 750},
		{"giovi", "Passo del Giovi", 44.561, 8.956, 480},
		{"genova", "Genova", 44.395, 8.956, 80},
		{"milano", "Milano-Baggio", 45.478, 9.123, 125},
	}
}
