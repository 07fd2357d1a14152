package radio

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

func TestOwrxState(t *testing.T) {
	var s owrxState
	for _, step := range []struct {
		text, refusal string
		want          owrxState
	}{
		{`{"type":"config","value":{"fft_size":4096}}`, "", owrxState{}},
		{`{"type":"config","value":{"center_freq":145000000,"samp_rate":2400000,"sdr_id":"rtlsdr","profile_id":"2m"}}`, "", owrxState{"rtlsdr", "2m", 145e6, 2.4e6}},
		{`{"type":"config","value":{"center_freq":433920000,"profile_id":"70cm"}}`, "", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
		{`{"type":"config","value":{"center_freq":null,"samp_rate":0}}`, "", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
		{`{"type":"config","value":{"center_freq":-5,"samp_rate":1e99}}`, "", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
		{`{"type":"config","value":7}`, "", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
		{`{"type":"smeter","value":1e-9}`, "", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
		{`CLIENT DE SERVER server=openwebrx version=v1.2.2`, "", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
		{`{"type":"backoff","reason":"Too many clients"}`, "says: Too many clients", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
		{`{"type":"sdr_error","value":"No SDR Devices available"}`, "has no device: No SDR Devices available", owrxState{"rtlsdr", "70cm", 433.92e6, 2.4e6}},
	} {
		now, refusal := s.hear([]byte(step.text))
		if now != step.want || refusal != step.refusal {
			t.Errorf("after %s: %+v, %q, want %+v, %q", step.text, now, refusal, step.want, step.refusal)
		}
		s = now
	}
}

func FuzzOwrxMessage(f *testing.F) {
	for _, seed := range []string{
		`{"type":"config","value":{"center_freq":145000000,"samp_rate":2400000.5,"sdr_id":"a","profile_id":"b"}}`,
		`{"type":"backoff","reason":"x"}`, `{"type":"sdr_error","value":"x"}`, `{"type":"config","value":null}`, `[`, ``,
		`{"receiver":{"name":"x"},"sdrs":[{"name":"a","profiles":[{"center_freq":1e400}]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := owrxState{"a", "b", 1e6, 1e5}
		now, refusal := before.hear(text)
		if !now.complete() || now.centerHz > maxHz || now.rateHz < minRateHz || now.rateHz > maxRateHz {
			t.Errorf("%q leads to %+v", text, now)
		}
		if !utf8.ValidString(now.device+now.profile+refusal) || len(now.device)+len(now.profile)+len(refusal) > 1000 {
			t.Errorf("%q leads to %q, %q, %q", text, now.device, now.profile, refusal)
		}
		owrxFacts(text)
		if !json.Valid(text) && (now != before || refusal != "") {
			t.Errorf("%q is no message and led to %+v, %q", text, now, refusal)
		}
	})
}

func TestOwrxPorts(t *testing.T) {
	process := func(words string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(words)} }
	got := owrxPorts(fstest.MapFS{
		"proc/1/cmdline":    process("/sbin/init\x00"),
		"proc/10/cmdline":   process("rtl_connector\x00-s\x002400000\x00-f\x00145000000\x00-p\x0043210\x00-c\x0043211\x00"),
		"proc/11/cmdline":   process("/usr/bin/soapy_connector\x00--port\x004951\x00"),
		"proc/12/cmdline":   process("rtl_connector\x00-p\x00"),
		"proc/13/cmdline":   process("rtl_connector\x00-p\x0099999\x00"),
		"proc/14/cmdline":   process(""),
		"proc/15/cmdline":   process("vim\x00rtl_connector\x00-p\x0080\x00"),
		"proc/self/cmdline": process("rtl_connector\x00-p\x001\x00"),
		"proc/16/status":    process(""),
	})
	if ports := slices.Sorted(maps.Keys(got)); !slices.Equal(ports, []int{4951, 43210}) {
		t.Errorf("found %v", got)
	}
	if got := owrxPorts(fstest.MapFS{}); len(got) != 0 {
		t.Errorf("without a list of processes: %v", got)
	}
}
