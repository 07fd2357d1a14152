package powerloss_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/powerloss"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("POWERLOSS_TEST_DIR"); dir != "" {
		if err := write(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const kib = 1 << 10

// write does one of each thing and says what ought to be durable after it.
func write(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "a.new"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { _, err := f.WriteAt([]byte(strings.Repeat("1", 4*kib)), 0); return err },
		f.Sync,
		func() error { return os.Rename(filepath.Join(dir, "a.new"), filepath.Join(dir, "a")) },
		func() error { return syncDir(dir) },
		func() error { fmt.Println("one"); return nil },
		func() error { _, err := f.WriteAt([]byte(strings.Repeat("2", 4*kib)), 0); return err },
		func() error { return os.Mkdir(filepath.Join(dir, "d"), 0o700) },
		func() error { return os.WriteFile(filepath.Join(dir, "d", "b"), []byte("b"), 0o600) },
		func() error { fmt.Println("two"); return nil },
		f.Sync,
		func() error { return f.Truncate(kib) },
		f.Sync,
		func() error { return os.Remove(filepath.Join(dir, "d", "b")) },
		func() error { return syncDir(filepath.Join(dir, "d")) },
		func() error { return syncDir(dir) },
		func() error { fmt.Println("three"); return nil },
		f.Close,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// states tells what 400 images at a point have: each distinct state once.
func states(t *testing.T, r *powerloss.Recording, point int, describe func(dir string) string) map[string]int {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 400 {
		dir := t.TempDir()
		if err := r.Image(random, point, dir); err != nil {
			t.Fatal(err)
		}
		seen[describe(dir)]++
	}
	return seen
}

func TestImage_HasWhatIsDurableAndAnyOfTheRest(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has strace")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "POWERLOSS_TEST_DIR="+dir)
	r, err := powerloss.Record(cmd, dir)
	if err != nil {
		t.Fatal(err)
	}
	at := func(line string) int {
		point, ok := r.After(line)
		if !ok {
			t.Fatalf("the program never said %q: %v", line, r.Said(r.Points()-1))
		}
		return point
	}
	if said := r.Said(at("two")); strings.Join(said, " ") != "one two" {
		t.Errorf("said %v", said)
	}

	whole := func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, "a"))
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	if got := states(t, r, at("one"), whole); len(got) != 1 || got[strings.Repeat("1", 4*kib)] == 0 {
		t.Errorf("after the sync of the directory there are %d states, want the one that was written", len(got))
	}

	// Not synced: old sectors and new ones, in any mixture, but only whole sectors.
	got := states(t, r, at("two"), whole)
	if len(got) < 100 || got[strings.Repeat("1", 4*kib)] == 0 || got[strings.Repeat("2", 4*kib)] == 0 {
		t.Errorf("%d states, want many, and also all and nothing of what was written", len(got))
	}
	for state := range got {
		for i := 0; i < len(state); i += 512 {
			if s := state[i : i+512]; s != strings.Repeat(s[:1], 512) {
				t.Fatalf("a sector is torn: %.20s…", s)
			}
		}
	}

	// A folder that was not synced into its parent, with a file in it.
	folder := states(t, r, at("two"), func(dir string) string {
		_, d := os.Stat(filepath.Join(dir, "d"))
		_, b := os.Stat(filepath.Join(dir, "d", "b"))
		return fmt.Sprint(d == nil, b == nil)
	})
	if len(folder) != 3 { // no folder, an empty one, one with the file
		t.Errorf("states of the folder: %v", folder)
	}
	last := states(t, r, at("three"), func(dir string) string {
		b, err := os.ReadDir(filepath.Join(dir, "d"))
		return fmt.Sprint(len(whole(dir)), len(b), err)
	})
	if len(last) != 1 || last[fmt.Sprint(kib, 0, error(nil))] == 0 {
		t.Errorf("at the end: %v, want 1024 bytes and an empty folder", last)
	}
}

func TestRecord_SaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := powerloss.Record(exec.Command("true"), t.TempDir()); err == nil || !strings.Contains(err.Error(), "apt-get install strace") {
		t.Errorf("without strace: %v", err)
	}
}
