package clock_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// monotonic lists the files of the agent that read the time themselves, and what for. All of it is durations and deadlines,
// where time.Now carries a monotonic reading. Whoever adds a file here says what it measures; what becomes data comes from
// the clock. A folder stands for all that is in it.
var monotonic = map[string]string{
	"bench_other.go":            "how long a computation took",
	"clock/clock.go":            "the first moment of a clock that has no other",
	"clock/system_linux.go":     "the monotonic clock where the kernel knows no better one",
	"clock/system_other.go":     "the monotonic clock",
	"clock/wall.go":             "the wall clock itself",
	"clock/wall_faults.go":      "the wall clock itself, moved",
	"control.go":                "the deadline of a socket",
	"discover":                  "how long an answer is waited for",
	"link":                      "time-outs of acknowledgements, back-off, how long a session lasted; expiry is judged by Config.Now",
	"radio/child.go":            "how long a program may take to end",
	"radio/file.go":             "pace of a recording that plays in real time",
	"radio/hosts.go":            "how long a host is left alone",
	"radio/intake.go":           "how long no sample has come",
	"radio/ka9q.go":             "how long an answer is waited for",
	"radio/ka9q_stream.go":      "when packets and answers came, by the monotonic clock; what time it was says Options.Wall",
	"radio/kiwi.go":             "when frames came, by the monotonic clock",
	"radio/kiwi_stream.go":      "when frames came, by the monotonic clock",
	"radio/live.go":             "how long no sample has come, how long a connection has lasted",
	"radio/pipe.go":             "when samples came, by the monotonic clock: arrivalClock makes times of it with Options.Wall",
	"radio/rtltcp.go":           "when samples came and commands went, by the monotonic clock; deadlines of a socket",
	"radio/sim.go":              "how far the wall clock moved against the monotonic one",
	"radio/source.go":           "the wall clock of programs that have no Clock: measure, check, a tap without an agent",
	"radio/spyserver.go":        "how long an answer is waited for; deadlines of a socket",
	"radio/spyserver_stream.go": "when messages came and orders went, by the monotonic clock",
	"recorder/load.go":          "how long samples take to compute, and how soon they are overwritten",
	"recorder/turns.go":         "how long a turn lasted",
	"spool":                     "when a commit is due, how fast records come; times of records are of Options.Now",
	"survey/survey.go":          "how long the publisher stalled, how long a receiver was away",
	"survey/status.go":          "how long a block has been worked at",
}

// data are methods of a time that make data of it.
var data = []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano", "UTC", "Local", "In", "Format", "AppendFormat", "String", "Date", "Year", "Clock"}

func TestWallTimeComesFromTheClock(t *testing.T) {
	used := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "radiotest") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		folder, _, _ := strings.Cut(name, "/")
		ast.Inspect(file, func(n ast.Node) bool {
			if made, ok := madeDataOf(n); ok {
				t.Errorf("%s: %s of time.Now: what becomes data comes from agent/clock", files.Position(n.Pos()), made)
			}
			if !readsTime(n) {
				return true
			}
			key := name
			if _, ok := monotonic[name]; !ok {
				key = folder
			}
			if _, ok := monotonic[key]; !ok {
				t.Errorf("%s reads the time itself: take it from agent/clock, or say in this test which duration it measures", files.Position(n.Pos()))
			}
			used[key] = true
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(monotonic)) {
		if !used[name] && name != "clock/system_other.go" {
			t.Errorf("%s reads the time no longer: strike it from the list", name)
		}
	}
}

// readsTime tells whether a node is time.Now, time.Since or time.Until, called or not.
func readsTime(n ast.Node) bool {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := s.X.(*ast.Ident)
	return ok && from.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, s.Sel.Name)
}

// madeDataOf tells which method makes data of time.Now() at once.
func madeDataOf(n ast.Node) (string, bool) {
	s, ok := n.(*ast.SelectorExpr)
	if !ok || !slices.Contains(data, s.Sel.Name) {
		return "", false
	}
	call, ok := s.X.(*ast.CallExpr)
	return s.Sel.Name, ok && readsTime(call.Fun)
}
