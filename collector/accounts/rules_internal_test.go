package accounts

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fulgidus/heimdall/protocol"
)

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a", false},
		{"a", "a/b", false},
		{"a/+", "a/b", true},
		{"a/+", "a/+", true},
		{"a/+", "a/#", false},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"a/b", "a/+", false},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "a/+/#", true},
		{"a/#", "#", false},
		{"a/#", "+/b", false},
		{"+/b", "a/b", true},
		{"#", "a/+/#", true},
		{"#", "$SYS/broker", false},
		{"+/broker", "$SYS/broker", false},
		{"#", "$share/g/a", false},
		{"$SYS/#", "$SYS/broker", true},
		{"a/+/c", "a//c", true},
		{"a/", "a", false},
	} {
		if got := covers(c.wide, c.narrow); got != c.want {
			t.Errorf("%s covers %s: got %t, want %t", c.wide, c.narrow, got, c.want)
		}
	}
}

// TestCovers_NoTopicEscapes takes filters and a topic of few words, so that they often match: what a covered filter takes, the
// covering one takes, too.
func TestCovers_NoTopicEscapes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		filter := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+", "#", "$x", ""}), 1, 4)
		wide, narrow := strings.Join(filter.Draw(r, "wide"), "/"), strings.Join(filter.Draw(r, "narrow"), "/")
		topic := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "$x", ""}), 1, 4).Draw(r, "topic"), "/")
		for _, f := range []string{wide, narrow} {
			if i := strings.IndexByte(f, '#'); i >= 0 && i != len(f)-1 {
				r.Skip("no filter")
			}
		}
		if covers(wide, narrow) && covers(narrow, topic) && !covers(wide, topic) {
			r.Fatalf("%s covers %s, which takes %s", wide, narrow, topic)
		}
	})
}

func TestPassword_FitsItsHashAlone(t *testing.T) {
	password := newPassword()
	if len(password) < 22 {
		t.Errorf("a password of %d letters holds less than 128 bits", len(password))
	}
	hash, err := hashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	if !fits(hash, password) || fits(hash, password+"x") || fits(hash, "") || strings.Contains(hash, password) {
		t.Errorf("hash %s", hash)
	}
	for _, bad := range []string{"", "$", "$6$101$$", "$7$x$$", "$7$0$c2FsdA==$", "$7$999999999$c2FsdA==$", "$7$101$!$!", "$7$101$c2FsdA==$"} {
		if fits(bad, "") {
			t.Errorf("the hash %q fits the empty password", bad)
		}
	}
}

// Where stations and collectors agree on another prefix of Home Assistant, that is where everybody's rights are.
func TestRules_HomeAssistantElsewhere(t *testing.T) {
	r := Rules{HomeAssistant: protocol.HomeAssistant{Prefix: "club/ha"}}
	for _, c := range []struct {
		who     []right
		publish bool
		filter  string
		want    bool
	}{
		{r.station("torino"), true, "club/ha/device/heimdall-torino/config", true},
		{r.station("torino"), true, "club/ha/device/heimdall-genova/config", false},
		{r.station("torino"), true, "homeassistant/device/heimdall-torino/config", false},
		{r.station("torino"), false, "club/ha/status", true},
		{r.subscriber(), false, "club/ha/device/+/config", true},
		{r.subscriber(), false, "homeassistant/device/+/config", false},
		{r.subscriber(), true, "club/ha/status", false},
		{r.collector("torino"), true, "club/ha/device/heimdall-torino/config", true},
		{r.collector("torino"), true, "club/ha/device/heimdall-genova/config", false},
	} {
		if got := allowed(c.who, c.publish, c.filter); got != c.want {
			t.Errorf("publish %t, %s: got %t, want %t", c.publish, c.filter, got, c.want)
		}
	}
	for topic, want := range map[string]bool{
		"club/ha/device/heimdall-torino/config": true, "club/ha/device/heimdall-/config": false, "club/ha/device/heimdall-a/b/config": false,
		"club/ha/device/other/config": false, "homeassistant/device/heimdall-torino/config": false, "club/ha/status": false,
	} {
		if r.describes(topic) != want {
			t.Errorf("%s describes a station: want %t", topic, want)
		}
	}
}
