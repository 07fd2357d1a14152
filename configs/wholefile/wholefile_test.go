package wholefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fulgidus/heimdall/configs/wholefile"
)

func TestWrite_WholeOrAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	holds := func(want string, mode os.FileMode) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil || string(text) != want {
			t.Errorf("there is %q, %v, want %q", text, err, want)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != mode {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, mode)
		}
		if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
			t.Errorf("left behind: %v, %v", list, err)
		}
	}
	if err := wholefile.Write(path, []byte("first"), 0o644, nil); err != nil {
		t.Fatal(err)
	}
	holds("first", 0o644)

	refused := errors.New("refused")
	err := wholefile.Write(path, []byte("second"), 0o600, func(part string) error {
		if text, err := os.ReadFile(part); err != nil || string(text) != "second" {
			t.Errorf("prepared is %q, %v", text, err)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	holds("first", 0o644)

	// Left behind by a crash, and open to everybody.
	if err := os.WriteFile(path+wholefile.Suffix, []byte("half of something long"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Write(path, []byte("third"), 0o600, nil); err != nil {
		t.Fatal(err)
	}
	holds("third", 0o600)

	if err := wholefile.Write(filepath.Join(path, "below"), nil, 0o600, nil); err == nil {
		t.Error("written below a file")
	}
}

// Those that write the same file at the same time do not meet: none fails, and there is always one of their files whole.
func TestWriteShared_OfSeveralAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	texts := []string{strings.Repeat("first ", 10_000), strings.Repeat("second", 10_000)}
	var writers sync.WaitGroup
	for _, text := range texts {
		writers.Go(func() {
			for range 50 {
				if err := wholefile.WriteShared(path, []byte(text), 0o640); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				if got, err := os.ReadFile(path); err != nil || !slices.Contains(texts, string(got)) {
					t.Errorf("there is half a file of %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	writers.Wait()
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}
