//go:build unix

package radio

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A real shell says what the words are.
func TestSplitWords_AsAShell(t *testing.T) {
	for _, line := range []string{
		"rtl_sdr -f 433920000 -",
		"  a   b\tc  ",
		`a 'b c' "d e" f\ g`,
		`'it'\''s' "say \"x\"" "a\b" "a\\b"`,
		`a"b"'c'd`,
		`'' ""`,
		`"a'b" 'a"b'`,
		"a \\\nb",
		`driver=rtlsdr,serial='00 01'`,
		`sh -c 'a | b > c; d & e'`,
		`é 'ü ü'`,
		``,
	} {
		got, err := splitWords(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `for w in `+line+`
do printf '%s\0' "$w"; done`).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if len(out) > 0 {
			want = strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, a shell says %q", line, got, want)
		}
	}
}

func TestSplitWords_Refuses(t *testing.T) {
	for line, want := range map[string]string{
		"a | b": "sh -c", "a; b": "sh -c", "a > b": "sh -c", "a `b`": "sh -c", "a & b": "sh -c",
		"a 'b": "not closed", `a "b`: "not closed", `a \`: "at the end", "a\x00b": "zero byte",
	} {
		if words, err := splitWords(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want an error with %q", line, words, err, want)
		}
	}
}

// Words that were quoted come out as they went in, and no line makes it stumble.
func FuzzSplitWords(f *testing.F) {
	for _, seed := range []string{"a 'b c' d", `a\ b "c\"d"`, "x | y", "'", "\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := splitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(words, again) {
			t.Errorf("%q: words %q, quoted and split again %q, %v", line, words, again, err)
		}
	})
}
