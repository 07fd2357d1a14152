package support_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/support"
)

func TestSecrets_HidesWhatIsKnown(t *testing.T) {
	var s support.Secrets
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("c4nary-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.AddConfig(`station: {id: torino, position: {lat: 45.03411, lon: "7.29310", publish: 10km}}
mqtt: {url: "mqtt://torino:c4nary/url@host", password: "c4nary \"quoted\"", username: torino}
archive:
  secret_key: c4nary-key # of the bucket
  'access_key': c4nary-access
receivers:
  - source: kiwi://host:8073?password=c4nary%20kiwi&ipl_password=file:` + file + `
  - {id: r1, source: 'exec:rx --token c4nary-token --key=c4nary-option -f 7.1M?format=cu8&rate=2.4M'}
broken: [
`)
	s.AddEnvironment([]string{"HEIMDALL_TOKEN=c4nary-env", "HEIMDALL_COLLECTOR_STORE_URL=postgres://me:c4nary-store@db/x", "HOME=/root"})
	s.Add("heimdall")
	for text, want := range map[string]string{
		"connect to c4nary/url: refused":          "connect to ***: refused",
		`said c4nary "quoted", said "c4nary \"q"`: `said ***, said "c4nary \"q"`,
		`log="c4nary \"quoted\""`:                 `log="***"`,
		"c4nary-key c4nary-access c4nary-file":    "*** *** ***",
		"p=c4nary kiwi c4nary%20kiwi c4nary+kiwi": "p=*** *** ***",
		"rx --token c4nary-token c4nary-option":   "rx --token *** ***",
		"c4nary-env c4nary-store /root":           "*** *** /root",
		"at 45.03411 7.2931, -7.29, 45.034, 7.3":  "at *** ***, ***, ***, 7.3",
		"145.5 MHz at 45 dB, 95.03411":            "145.5 MHz at 45 dB, 95.03411",
		"/etc/heimdall/agent.yaml heimdall-agent": "/etc/heimdall/agent.yaml heimdall-agent",
		"user heimdall heimdall: x":               "user *** ***: x",
		"format=cu8&rate=2.4M":                    "format=cu8&rate=2.4M",
	} {
		if got := s.Hide(text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestSecrets_HidesWhatLooksLikeOne(t *testing.T) {
	var s support.Secrets
	for text, want := range map[string]string{
		"dial mqtt://torino:hush@host:1883: refused":                             "dial mqtt://***@host:1883: refused",
		"postgres://torino:hu/s@h@host/db":                                       "postgres://***@host/db",
		"kiwi://host:8073?password=hush&x=1":                                     "kiwi://host:8073?password=***&x=1",
		"--config a --token hush --password=hush":                                "--config a --token *** --password=***",
		"join with hd1.AbC_d-e.fgh now":                                          "join with hd1.*** now",
		"add a token (hdt_abc234xyz): no":                                        "add a token (hdt_***): no",
		"Authorization: Bearer abcdefgh":                                         "Authorization: Bearer ***",
		`{"password": "hush", "access_key":"hush"}`:                              `{"password": "***", "access_key":"***"}`,
		"lat=45.1 lon: 7.2 \"latitude_deg\":45.0":                                `lat=*** lon: *** "latitude_deg":***`,
		"mqtt.password: write it":                                                "mqtt.password: write it",
		"file:///a?anchor=2017-11-27T10:42:00Z@2026":                             "file:///a?anchor=2017-11-27T10:42:00Z@2026",
		"a -----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nb": "a ***\nb",
	} {
		if got := s.Hide(text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

// Whatever the text of a configuration is, what it names as a password is not shown.
func FuzzSecrets_AddConfig(f *testing.F) {
	f.Add("mqtt: {password: ", "hush hush")
	f.Add("a: 'b\n  secret_key : ", `x"y\z`)
	f.Fuzz(func(t *testing.T, before, secret string) {
		if len(secret) < 8 || strings.ContainsAny(secret, "\n\r\"'\\#,{}[]: \t*") || strings.HasPrefix(secret, "file:") || strings.TrimSpace(secret) != secret {
			t.Skip()
		}
		var s support.Secrets
		s.AddConfig(before)
		s.AddConfig("password: " + secret + "\n")
		if hidden := s.Hide("it says " + secret + " aloud"); strings.Contains(hidden, " "+secret+" ") {
			t.Errorf("%q is shown: %q", secret, hidden)
		}
	})
}
