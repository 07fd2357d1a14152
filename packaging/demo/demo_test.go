package demo_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/packaging/demo"
)

func TestStations_AreThoseOfTheScene(t *testing.T) {
	scene, err := radio.DecodeScene("scene.yaml", demo.Scene())
	if err != nil {
		t.Fatal(err)
	}
	var got []demo.Station
	for _, s := range demo.Stations() {
		in := scene.Stations[s.ID]
		if in == nil {
			t.Fatalf("station %s is not in the scene", s.ID)
		}
		got = append(got, demo.Station{ID: s.ID, Name: in.Name, LatitudeDeg: in.Position[0], LongitudeDeg: in.Position[1], HeightM: in.Position[2]})
	}
	if diff := cmp.Diff(got, demo.Stations()); diff != "" {
		t.Errorf("the scene (-) and Stations (+) differ:\n%s", diff)
	}
	if got, want := len(scene.Stations), len(demo.Stations()); got != want {
		t.Errorf("the scene has %d stations, Stations lists %d", got, want)
	}
}
